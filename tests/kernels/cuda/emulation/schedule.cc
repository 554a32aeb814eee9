// Chooses between the emulation's two schedules, or who is told of launches; see device.cuh.
#include <device.cuh>

extern "C" void emulation_schedule(int falling) { emulation::falling = falling != 0; }
extern "C" void emulation_record(emulation::Recorder recorder) { emulation::recorder = recorder; }
