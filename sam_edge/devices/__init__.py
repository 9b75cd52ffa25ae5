"""Bundles measured on the devices that they are for: phones over `adb`, boards over ssh, Macs by Core ML's own tools.

| module | what |
|---|---|
| `timing` | what is measured, on which device, by which tool, with which figures |
| `adb` | the `adb` program: devices, shell, push, and what its messages mean |
| `elf` | whether a program on this machine is one for Android, and for which processor |
| `phone` | what a device says of itself: model, chip, version, room |
| `litert_tool` | LiteRT's `benchmark_model`: its command lines and what it prints |
| `ort_tool` | ONNX Runtime's `onnxruntime_perf_test`: likewise |
| `interruption` | Ctrl-C and SIGTERM that still clean up |
| `android` | push, run, read, remove |
| `apple` | `MLModelBenchmarker` and `MLComputePlan` |
| `table` | the figures for a terminal |
| `ssh_options` `ssh_connection` `ssh_requirements` | a host, one connection to it, and what it has to have |
| `ssh` | copy the runtime and the bundles, run the benchmark there, bring its document back |
| `doctor` `probes` | which extras, engines and devices are usable on this machine, and what is missing |

A figure stands where a tool printed it, and nowhere else. A variant that did not run, or that ran elsewhere than it was
told to, is a row with its reason.
"""
