"""Rooms, cognitive maps, verifiable rewards and SG-RLVR: the library behind the
numbered notebooks.

Floors, lowest first (a module imports only what stands above it; see
``tests/test_house.py``): ``errors``, ``artifacts``, ``jobs``, ``scene``,
``geometry``, ``scannet``, ``synthetic``, ``video``, ``cogmap``, ``qa``, ``mixture``,
``prompts``, ``completions``, ``metrics``, ``rewards``, ``scoring``, ``probes``,
``models``, ``training``, ``benchmarks``, ``evaluation``, ``study``, ``published``,
``plots``, ``figures``, ``benches``, ``bench_step``, ``notebooks``, ``cli``,
``__main__``.
"""

__version__ = "0.1.0"
