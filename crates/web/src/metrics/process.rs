//! This process, by the names that Prometheus' own clients use.

use std::fs;

use super::Samples;

/// Reads `/proc/self`; what cannot be read is left out.
pub(crate) fn collect(samples: &mut Samples) {
    let Some(stat) = stat() else { return };
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let page = rustix::param::page_size() as f64;
    let cpu = (stat.user + stat.system) / ticks;
    samples.counter("process_cpu_seconds_total", "Processor time of the agent, user and system.", &[], cpu);
    samples.gauge("process_threads", "Threads of the agent.", &[], stat.threads);
    samples.gauge("process_virtual_memory_bytes", "Virtual memory of the agent.", &[], stat.virtual_bytes);
    samples.gauge(
        "process_resident_memory_bytes",
        "Resident memory of the agent.",
        &[],
        stat.resident * page,
    );
    if let Some(booted) = booted() {
        let about = "When the agent started, in seconds since the epoch.";
        samples.gauge("process_start_time_seconds", about, &[], booted + stat.started / ticks);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        samples.gauge("process_open_fds", "File descriptors that are open.", &[], open.count() as f64);
    }
    if let Some(most) = most_files() {
        samples.gauge("process_max_fds", "File descriptors that may be open.", &[], most);
    }
}

/// Numbers of `/proc/self/stat`, times in ticks.
struct Stat {
    user: f64,
    system: f64,
    threads: f64,
    started: f64,
    virtual_bytes: f64,
    /// In pages.
    resident: f64,
}

fn stat() -> Option<Stat> {
    parse(&fs::read_to_string("/proc/self/stat").ok()?)
}

fn parse(text: &str) -> Option<Stat> {
    // The name of the program is in brackets, and may have anything in it.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<f64> = rest.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect();
    // `state`, the third of the manual's fields, is the first here.
    let field = |number: usize| fields.get(number - 3).copied();
    Some(Stat {
        user: field(14)?,
        system: field(15)?,
        threads: field(20)?,
        started: field(22)?,
        virtual_bytes: field(23)?,
        resident: field(24)?,
    })
}

/// The soft limit; none where there is none.
fn most_files() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/limits").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// When the machine was started, in seconds since the epoch.
fn booted() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_can_be_read() {
        let mut samples = Samples::default();
        collect(&mut samples);
        assert!(samples.names().count() >= 6, "{samples}");
        let stat = parse("1 (a) b) S 0 0 0 0 0 0 0 0 0 0 7 8 0 0 0 0 9 0 10 11 12 0").expect("it is read");
        assert_eq!((stat.user, stat.system, stat.threads, stat.started), (7.0, 8.0, 9.0, 10.0));
        assert_eq!((stat.virtual_bytes, stat.resident), (11.0, 12.0));
    }
}
