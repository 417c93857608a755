"""Runs a tool as its users do, with torchvision made importable first.

python run_tool.py TOOL.py [ARGUMENTS]
"""

import runpy
import sys

import torchvision_ops

if __name__ == "__main__":
    torchvision_ops.declare()
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
