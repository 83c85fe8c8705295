#include "mematlas.h"
