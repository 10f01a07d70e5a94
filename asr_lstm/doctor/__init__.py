"""`asr-lstm doctor`: what is installed, what the machine offers, and what to do about what is missing."""

from asr_lstm.doctor.checks import Check
from asr_lstm.doctor.command import doctor_command

__all__ = ["Check", "doctor_command"]
