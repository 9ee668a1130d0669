//! Scheduling of the engine's threads by the operating system.

/// Keeps a shard from taking the core of the scheduler whose cast wakes it (SCHED_BATCH in sched(7)). Its share of the
/// processor stays the same. Other systems than Linux keep their default, and an error is no reason to stop.
pub(crate) fn yield_to_callers() {
    #[cfg(target_os = "linux")]
    {
        let parameters = libc::sched_param { sched_priority: 0 };
        // SAFETY: the thread is the calling one, and the pointer is valid for the call to read.
        let _ = unsafe {
            libc::pthread_setschedparam(
                libc::pthread_self(),
                libc::SCHED_BATCH,
                &raw const parameters,
            )
        };
    }
}
