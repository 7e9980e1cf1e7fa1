"""With this folder in PYTHONPATH, processes that a test starts see the double too: $EDGEVIT_GPU_DOUBLE says which."""

import os

if os.environ.get("EDGEVIT_GPU_DOUBLE"):
    from tests.support.gpu_double import MACHINES, Machine, install

    _gpu, _driver, _versions = MACHINES[os.environ["EDGEVIT_GPU_DOUBLE"]]
    install(Machine(_gpu, _driver), _versions, dict.__setitem__)
