/* Time: a monotonic clock for phases and a wall clock for records. */
#ifndef DRPO_BASE_CLOCK_H
#define DRPO_BASE_CLOCK_H

double clock_seconds(void); /* monotonic */
double clock_wall(void);    /* seconds since 1970 */
double clock_process(void); /* seconds since this process was started; 0 where the system does not tell */
/* Peak and current resident memory of this process in bytes (0 where the system does not tell). */
long long memory_peak_bytes(void);
long long memory_now_bytes(void);

#endif
