"""What the tools print, in the forms that their sources and documentation give; the numbers are made up.

| text | form |
|---|---|
| `LITERT_2018` | `Average inference timings`: tensorflow/lite/tools/benchmark/README.md and android/README.md |
| `LITERT_2020` | `Inference timings in us`, numbers in e-notation, one warm-up: benchmark_model.cc of TensorFlow 2.4 to 2.16 |
| `LITERT_2025_*` | prefix `INFO:`, `p5= median= p95=`: tflite/tools/benchmark/benchmark_model.cc of google-ai-edge/LiteRT |
| `COMPILED_*` | litert/tools/benchmark_litert_model.h of google-ai-edge/LiteRT |
| `LITERT_PROFILE` | tflite/profiling/profile_summary_formatter.cc, `Delegate internal:` included |
| `LITERT_PROFILE_TABS` | tensorflow/lite/tools/benchmark/README.md: columns with tabs |
| `ORT_*` | onnxruntime/test/perftest/README.md and performance_runner.cc of several years |
| `ORT_PROFILE*` | https://onnxruntime.ai/docs/performance/tune-performance/profiling-tools.html |
"""

from __future__ import annotations

# ruff: noqa: E501 - lines of the tools

LITERT_2018 = """STARTING!
Num runs: [50]
Num threads: [4]
Graph: [/data/local/tmp/sam-edge-0/graph/encoder.tflite]
Loaded model /data/local/tmp/sam-edge-0/graph/encoder.tflite
resolved reporter
Initialized session in 38.467ms
Running benchmark for 1 iterations
count=1 curr=83235

Running benchmark for 50 iterations
count=50 first=79449 curr=81350 min=77385 max=88213 avg=79732 std=1929

Average inference timings in us: Warmup: 83235, Init: 38467, no stats: 79732
"""

LITERT_2020 = """STARTING!
Log parameter values verbosely: [0]
Min num runs: [50]
Num threads: [4]
Graph: [encoder.tflite]
#threads used for CPU inference: [4]
Loaded model encoder.tflite
The input model file size (MB): 16.9008
Initialized session in 17.187ms.
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
count=1 curr=3512391

Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
count=50 first=2990275 curr=2913402 min=2727568 max=3189954 avg=2.95034e+06 std=109798

Inference timings in us: Init: 17187, First inference: 3512391, Warmup (avg): 3.51239e+06, Inference (avg): 2.95034e+06
Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual memory.
Peak memory footprint (MB): init=4.21094 overall=46.0859
"""

LITERT_2025_CPU = """INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Graph: [encoder.tflite]
INFO: Signature to run: []
INFO: Use xnnpack: [1]
INFO: Loaded model encoder.tflite
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
INFO: XNNPACK delegate created.
VERBOSE: Replacing 110 out of 120 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 4 partitions for subgraph 0.
INFO: Explicitly applied XNNPACK delegate, and the model graph will be partially executed by the delegate w/ 4 delegate kernels.
INFO: The input model file size (MB): 4.2761
INFO: Initialized session in 87.639ms.
INFO: Running benchmark for at least 2 iterations and at least 0 seconds but terminate if exceeding 600 seconds.
INFO: count=5 first=106436 curr=105929 min=105929 max=106436 avg=106065 std=193 p5=105929 median=105948 p95=106436

INFO: Running benchmark for at least 50 iterations and at least 0 seconds but terminate if exceeding 600 seconds.
INFO: count=50 first=106022 curr=105780 min=105416 max=106528 avg=105784 std=260 p5=105485 median=105718 p95=106281

INFO: Inference timings in us: Init: 87639, First inference: 106436, Warmup (avg): 106065, Inference (avg): 105784
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual.
INFO: Memory footprint delta from the start of the tool (MB): init=14.5 overall=16.25
"""

LITERT_2025_GPU = """INFO: STARTING!
INFO: Use gpu: [1]
INFO: Loaded model encoder.tflite
INFO: Created TensorFlow Lite delegate for GPU.
INFO: GPU delegate created.
VERBOSE: Replacing 100 out of 120 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 3 partitions for subgraph 0.
INFO: Initialized OpenCL-based API.
INFO: Created 1 GPU delegate kernels.
INFO: Explicitly applied GPU delegate, and the model graph will be partially executed by the delegate w/ 1 delegate kernels.
VERBOSE: Replacing 20 out of 21 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 2 partitions for subgraph 0.
INFO: Initialized session in 1361.24ms.
INFO: count=5 first=25113 curr=12537 min=11758 max=25113 avg=15344 std=4959 p5=11758 median=12912 p95=25113

INFO: count=50 first=19614 curr=15889 min=11842 max=19614 avg=15246 std=1329 p5=12107 median=15350 p95=16620

INFO: Inference timings in us: Init: 1361236, First inference: 25113, Warmup (avg): 15344, Inference (avg): 15246
INFO: Memory footprint delta from the start of the tool (MB): init=132.816 overall=132.816
"""

LITERT_REFUSED = """INFO: STARTING!
INFO: Use NNAPI: [1]
INFO: NNAPI delegate created.
INFO: Though NNAPI delegate is explicitly applied, the model graph will not be executed by the delegate.
INFO: count=50 first=106022 curr=105780 min=105416 max=106528 avg=105784 std=260
INFO: Inference timings in us: Init: 87639, First inference: 106436, Warmup (avg): 106065, Inference (avg): 105784
"""

LITERT_PEAK = """INFO: Overall peak memory footprint (MB) via periodic monitoring: 93.25
INFO: Memory status at the end of exeution:
INFO: - VmRSS              : 68 MB
"""

LITERT_PROFILE = """INFO: Profiling Info for Benchmark Initialization:
============================== Run Order ==============================
                          [node type]   [first]  [avg ms]      [%]    [cdf%]  [mem KB]  [times called]  [Name]
              ModifyGraphWithDelegate     6.348     6.348  55.640%   55.640%  7148.000               1  Modify/0

Number of nodes executed: 2
============================== Summary by node type ==============================
                          [Node type]   [count]  [avg ms]  [avg %]   [cdf %]  [mem KB]  [times called]
              ModifyGraphWithDelegate         1     6.348  55.640%   55.640%  7148.000               1
                      AllocateTensors         1     5.061  44.360%  100.000% 10292.000               1

Timings (microseconds): count=1 curr=11409
Memory (bytes): count=0
2 nodes observed



INFO: Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
                          [node type]   [first]  [avg ms]      [%]    [cdf%]  [mem KB]  [times called]  [Name]
               TfLiteXNNPackDelegate     90.000    90.000  90.000%   90.000%     0.000               1  [a]:1
                            TRANSPOSE     5.000     5.000   5.000%   95.000%     0.000               1  [b]:2

Number of nodes executed: 4
============================== Summary by node type ==============================
                          [Node type]   [count]  [avg ms]  [avg %]   [cdf %]  [mem KB]  [times called]
                TfLiteXNNPackDelegate         2    90.000  90.000%   90.000%     0.000               2
                            TRANSPOSE         1     7.500   7.500%   97.500%     0.000               1
                            RESHAPE           1     2.500   2.500%  100.000%     0.000               1

Timings (microseconds): count=5 first=100000 curr=100000 min=99000 max=101000 avg=100000 std=500
Memory (bytes): count=0
4 nodes observed


Delegate internal:
============================== Run Order ==============================
                          [node type]   [first]  [avg ms]      [%]    [cdf%]  [mem KB]  [times called]  [Name]
         Convolution (NHWC, F32) GEMM     0.398     0.407   2.658%    2.658%     0.000               1  x:0

============================== Summary by node type ==============================
                          [Node type]   [count]  [avg ms]  [avg %]   [cdf %]  [mem KB]  [times called]
         Convolution (NHWC, F32) GEMM        40    60.000  75.000%   75.000%     0.000              40
                Fully Connected (F32)        12    20.000  25.000%  100.000%     0.000              12

Timings (microseconds): count=5 first=80000 curr=80000 min=79000 max=81000 avg=80000 std=500
"""

LITERT_PROFILE_TABS = (
    "Number of nodes executed: 31\n"
    "============================== Summary by node type ==============================\n"
    "\t             [Node type]\t  [count]\t  [avg ms]\t    [avg %]\t    [cdf %]\t  [mem KB]\t[times called]\n"
    "\t                 CONV_2D\t       15\t  2651.853\t    89.897%\t    89.897%\t     0.000\t       15\n"
    "\t       DEPTHWISE_CONV_2D\t       13\t   296.919\t    10.065%\t    99.962%\t     0.000\t       13\n"
    "\t                 SQUEEZE\t        1\t     0.000\t      -nan%\t   100.000%\t     0.000\t        1\n"
    "\nTimings (microseconds): count=50 first=2989660 curr=2912978 min=2727203 max=3189476 avg=2.9499e+06 std=109770\n"
)

INTERPRETER_USAGE = """INFO: STARTING!
ERROR: usage: ./benchmark_model
Flags:
\t--num_runs=50                   int32\toptional\texpected number of runs, see also min_secs, max_secs
\t--graph=                        string\toptional\tgraph file name
\t--enable_op_profiling=false     bool\toptional\tenable op profiling
ERROR: Benchmarking failed.
"""

COMPILED_USAGE = """INFO: STARTING!
ERROR: usage: ./benchmark_model
Flags:
\t--graph=                        string\toptional\tThe path to the model file.
\t--use_gpu=false                 bool\toptional\tWhether to use GPU accelerator.
\t--use_profiler=false            bool\toptional\tWhether to use profiler.
"""

COMPILED_CPU = """INFO: [litert_logging.h:12] STARTING!
INFO: Running benchmark for at least 2 iterations and at least 0 seconds but terminate if exceeding 600 seconds.
INFO: [benchmark_litert_model.h:92]
========== BENCHMARK RESULTS ==========
INFO: [benchmark_litert_model.h:94] Model initialization: 41.50 ms
INFO: [benchmark_litert_model.h:95] Warmup (first):       12.25 ms
INFO: [benchmark_litert_model.h:97] Warmup (avg):         11.00 ms (2 runs)
INFO: [benchmark_litert_model.h:99] Inference (avg):      10.50 ms (50 runs)
INFO: [benchmark_litert_model.h:103] Inference (min):      9.75 ms
INFO: [benchmark_litert_model.h:105] Inference (max):      13.00 ms
INFO: [benchmark_litert_model.h:107] Inference (std):      0.50
INFO: [benchmark_litert_model.h:112] Throughput:           292.00 MB/s
INFO: [benchmark_litert_model.h:121]
Memory Usage:
INFO: [benchmark_litert_model.h:122] Init footprint:       20.00 MB
INFO: [benchmark_litert_model.h:124] Overall footprint:    24.50 MB
INFO: [benchmark_litert_model.h:132] Peak memory usage not available. (peak_mem_mb <= 0)
INFO: [benchmark_litert_model.h:133] ======================================
"""

COMPILED_GPU = COMPILED_CPU.replace(
    "INFO: Running benchmark",
    "VERBOSE: Replacing 118 out of 120 node(s) with delegate (LITERT_CL) node, yielding 2 partitions for subgraph 0.\n"
    "INFO: Running benchmark",
).replace(
    "INFO: [benchmark_litert_model.h:92]",
    "INFO: count=50 first=10900 curr=10400 min=9750 max=13000 avg=10500.5 std=501 p5=9800 median=10450 p95=12100\n"
    "INFO: [benchmark_litert_model.h:92]",
)

ORT_2018 = """Total time cost:58.8053
Total iterations:1000
Average time cost:58.8053 ms
Total run time:58.8102 s
Min Latency is 0.0559777sec
Max Latency is 0.0623472sec
P50 Latency is 0.0587108sec
P90 Latency is 0.0599845sec
P95 Latency is 0.0605676sec
P99 Latency is 0.0619517sec
P999 Latency is 0.0623472sec
"""

ORT_2020 = """Session creation time cost:0.512 s
Total inference time cost:5.88053 s
Total inference requests:1000
Average inference time cost:5.88053 ms
Total inference run time:5.88102 s
"""

ORT_NEWEST = """Setting intra_op_num_threads to 4
Session creation time cost: 0.217932 s
First inference time cost: 196 ms
Total inference time cost: 0.49 s
Total inference requests: 4
Average inference time cost total: 98.961997 ms
Total inference run time: 0.494854 s
Number of inferences per second: 10.104
Avg CPU usage: 11 %
Peak working set size: 271122432 bytes
Min Latency: 0.095 s
Max Latency: 0.102 s
P50 Latency: 0.0995 s
P90 Latency: 0.1015 s
P95 Latency: 0.1016 s
P99 Latency: 0.1017 s
P999 Latency: 0.102 s
"""

ORT_SAMPLES = """graph,0.095,271122432,11,0
graph,0.099,271122432,11,1
graph,0.1,271122432,11,2
graph,0.102,271122432,11,3

Min Latency: 0.095 s
"""

CONV, RELU = (
    '"args" : {"provider" : "CPUExecutionProvider","op_name" : "%s"}' % kind  # noqa: UP031 - braces are JSON's
    for kind in ("Conv", "Relu")
)
ORT_PROFILE = (
    "[\n"
    '{"cat" : "Session","pid" :1,"dur" :698,"ts" :11,"ph" : "X","name" :"model_loading_array","args" : {}},\n'
    '{"cat" : "Node","pid" :1,"dur" :9,"ts" :12,"ph" : "X","name" :"c_fence_before","args" : {"op_name" : "Conv"}},\n'
    f'{{"cat" : "Node","pid" :1,"dur" :300,"ts" :13,"ph" : "X","name" :"c_kernel_time",{CONV}}},\n'
    f'{{"cat" : "Node","pid" :1,"dur" :100,"ts" :14,"ph" : "X","name" :"r_kernel_time",{RELU}}},\n'
    '{"cat" : "Session","pid" :1,"dur" :420,"ts" :15,"ph" : "X","name" :"model_run","args" : {}},\n'
    f'{{"cat" : "Node","pid" :1,"dur" :500,"ts" :16,"ph" : "X","name" :"c_kernel_time",{CONV}}},\n'
    f'{{"cat" : "Node","pid" :1,"dur" :100,"ts" :17,"ph" : "X","name" :"r_kernel_time",{RELU}}},\n'
    '{"cat" : "Session","pid" :1,"dur" :620,"ts" :18,"ph" : "X","name" :"model_run","args" : {}}\n'
    "]\n"
)
ORT_PROFILE_XNNPACK = ORT_PROFILE.replace(
    '"CPUExecutionProvider","op_name" : "Conv"', '"XnnpackExecutionProvider","op_name" : "Conv"'
)
