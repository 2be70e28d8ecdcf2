"""What must hold on CUDA; run by deploy/gpu-check."""
