// Chooses between the emulation's two schedules; see device.cuh.
#include <device.cuh>

extern "C" void emulation_schedule(int falling) { emulation::falling = falling != 0; }
