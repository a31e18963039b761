"""Before torch is imported anywhere, in this process, its workers and the notebooks' kernels.

One thread for each worker of pytest-xdist, and short trainings in notebooks: see CONTRIBUTING.md.
"""

import os

os.environ.setdefault("MIXER_QUICK", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
