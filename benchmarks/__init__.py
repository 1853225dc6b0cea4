"""Speed claims as anyone can check them, a script each; run them from the project's folder, with nothing else running.

    pip install -r benchmarks/requirements.txt
    python -m benchmarks.training   --encoder FOLDER --raw-dir FLICKR8K     # steps, epochs, share of the matmul peak
    python -m benchmarks.captioning --encoder FOLDER --pictures FOLDER      # greedy and beam search
    python -m benchmarks.startup    --checkpoint BEST --picture PHOTO       # one caption from cold
    python -m benchmarks.scaling    --raw-dir FLICKR8K                      # memory and time against size

What was measured stands in BENCHMARKS.md.
"""
