"""Devices: measure bundles on phones over `adb`, on boards over ssh, and on Macs with Core ML's own tools.

| module | what |
|---|---|
| `timing` | the measured figures, with device and tool |
| `work` | the graphs of a bundle as a device's tool takes them |
| `adb` | the `adb` program: devices, shell, push, and its error messages |
| `elf` | checks that a program was built for Android, and for which processor |
| `phone` | properties of a device: model, chip, version, free space |
| `litert_tool` | LiteRT's `benchmark_model`: command lines and output |
| `ort_tool` | ONNX Runtime's `onnxruntime_perf_test`: command lines and output |
| `interruption` | cleans up on Ctrl-C and SIGTERM |
| `android` | measures bundles on an Android device |
| `bench` | runs the tools on a device whose folder holds them |
| `apple` | `MLModelBenchmarker` and `MLComputePlan` |
| `table` | tables for a terminal |
| `ssh_options` `ssh_connection` `ssh_requirements` | a host, a connection to it, and the packages it needs |
| `ssh` | copies the runtime and the bundles to a host, runs the benchmark, fetches its result |
| `doctor` `probes` | which extras, engines and devices are usable on this machine, and what is missing |

Every figure is one that a tool printed. A variant that did not run, or that ran on another processor than it was to, is
a row with the reason.
"""
