"""`mematlas ps`: all processes of the machine."""
