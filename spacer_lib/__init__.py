"""Rooms, cognitive maps, verifiable rewards and SG-RLVR: the library behind the
numbered notebooks.

Floors, lowest first (a module imports only what stands above it; see
``tests/test_house.py``): ``errors``, ``artifacts``, ``scene``, ``geometry``,
``scannet``, ``synthetic``, ``video``, ``cogmap``, ``qa``, ``prompts``,
``completions``, ``metrics``, ``rewards``, ``models``, ``training``,
``evaluation``, ``study``, ``plots``, ``notebooks``, ``cli``.
"""

__version__ = "0.1.0"
