"""What a machine can run, and a rehearsal of the GPU path in stages of minutes.

``machine``   versions, GPUs, kernels, compilers, disk
``doctor``    all of it on one screen: ``spacer doctor``
``readings``  what a stage reads, kept as JSON while it runs
``parts``     rates, devices and attention alone
``models``    steps, decoding and answers of models with random weights
``runs``      the launcher and the trainer, in processes of their own
``stages``    the stages by name: ``spacer doctor --rehearse STAGE``
"""
