"""What can go wrong while MedX is started on one machine."""

from medx_core.errors import MedxError


class StackFault(MedxError):
    """A part of the stack cannot be started or kept running."""
