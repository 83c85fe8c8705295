"""Diagnosis: rules over the state of a machine, a process or a recording, and their fixes."""
