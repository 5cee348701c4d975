"""Rooms, cognitive maps, verifiable rewards and SG-RLVR: the library behind the
numbered notebooks.

Floors, lowest first (a module imports only what stands above it; see
``tests/test_house.py``): ``errors``, ``versions``, ``artifacts``, ``markup``, ``rows``,
``jobs``, ``settings``, ``rooms``, ``maps``, ``language``, ``questions``, ``rewards``,
``models``, ``tiny``, ``training``, ``benchmarks``, ``evaluation``, ``study``,
``rehearsal``, ``published``, ``pictures``, ``notebooks``, ``cli``, ``__main__``.
"""

__version__ = "0.1.0"
