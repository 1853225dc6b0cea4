"""Claims as anyone can check them, a script each; run them from the project's folder, with nothing else running.

    pip install -r benchmarks/requirements.txt
    python -m benchmarks.training   --encoder FOLDER --raw-dir FLICKR8K     # steps, epochs, share of the matmul peak
    python -m benchmarks.captioning --encoder FOLDER --pictures FOLDER      # greedy and beam search
    python -m benchmarks.startup    --checkpoint BEST --picture PHOTO       # one caption from cold
    python -m benchmarks.scaling    --raw-dir FLICKR8K                      # memory and time against size
    python -m benchmarks.scale_out  --raw-dir FLICKR8K --encoder FOLDER     # several processes, shards, resuming
    python -m benchmarks.distillation --raw-dir FLICKR8K --encoder FOLDER --teacher TEACHER     # what a teacher gives
    python -m benchmarks.git_teacher  --data-dir DATA --encoder FOLDER --output FOLDER          # makes a teacher
    python -m benchmarks.classification --raw-dir CIFAR10 --strong CNN --other VIT --out FOLDER # what teachers give
    python -m benchmarks.classifying  --raw-dir CIFAR10                     # classifiers beside Trainer

What was measured stands in BENCHMARKS.md and RESULTS.md.
"""
