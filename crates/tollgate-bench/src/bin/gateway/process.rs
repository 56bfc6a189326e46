//! The proxies' processes: where they run, and what they use.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Failure;

/// Two cores: one for this program, one for the proxies.
#[derive(Clone, Copy)]
pub(crate) struct Cores {
    own: usize,
    proxies: usize,
}

impl Cores {
    /// The first two that this program may use.
    pub(crate) fn of_machine() -> Result<Self, Failure> {
        let set = sched_getaffinity(None)?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core));
        match (cores.next(), cores.next()) {
            (Some(own), Some(proxies)) => Ok(Self { own, proxies }),
            _ => Err("two cores are needed".into()),
        }
    }

    /// Keeps this thread, and those that it starts, on one core.
    pub(crate) fn pin_own(self) -> Result<(), Failure> {
        Ok(pin(self.own)?)
    }

    /// Starts a program on the proxies' core.
    pub(crate) fn start(self, program: &Path, arguments: &[&str]) -> Result<Process, Failure> {
        let mut command = Command::new(program);
        command.args(arguments);
        // A process begins where the thread is that starts it, and counts the cores it finds then.
        let starting = std::thread::spawn(move || {
            pin(self.proxies)?;
            command.spawn()
        });
        let child = starting.join().map_err(|_| "a thread failed")?;
        let child = child.map_err(|err| format!("{}: {err}", program.display()))?;
        Ok(Process { child })
    }
}

fn pin(core: usize) -> std::io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// A process that ends with this program.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// What it used of the processor, in user and system.
    pub(crate) fn processor_time(&self) -> Result<Duration, Failure> {
        let stat = self.read("stat")?;
        // The second field is the name, in brackets, and may hold anything.
        let (_, fields) = stat.rsplit_once(')').ok_or("/proc/…/stat: no name")?;
        let times = fields.split_whitespace().skip(11).take(2);
        let ticks = times.map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        let each = Duration::from_secs(1) / u32::try_from(rustix::param::clock_ticks_per_second())?;
        Ok(each * u32::try_from(ticks)?)
    }

    /// What is resident of it, in bytes.
    pub(crate) fn resident(&self) -> Result<u64, Failure> {
        tollgate_bench::resident_in(&self.read("status")?)
            .ok_or_else(|| "/proc/…/status: no VmRSS".into())
    }

    /// Tells it to stop, and waits until it has.
    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        let id = i32::try_from(self.child.id())?;
        let id = rustix::process::Pid::from_raw(id).ok_or("no such process")?;
        rustix::process::kill_process(id, rustix::process::Signal::TERM)?;
        let stopped = tokio::task::spawn_blocking(move || self.child.wait()).await??;
        if stopped.success() {
            Ok(())
        } else {
            Err(format!("the program stopped with {stopped}").into())
        }
    }

    fn read(&self, name: &str) -> Result<String, Failure> {
        Ok(fs::read_to_string(format!(
            "/proc/{}/{name}",
            self.child.id()
        ))?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill(); // It may have ended by itself.
        let _ = self.child.wait();
    }
}

/// The programs `tollgate` and `bare_proxy`, built if this one was started by cargo.
pub(crate) fn programs() -> Result<(PathBuf, PathBuf), Failure> {
    let beside = |name| std::env::current_exe().map(|own| own.with_file_name(name));
    if let Some(cargo) = std::env::var_os("CARGO") {
        let packages = ["-p", "tollgate-gateway", "-p", "tollgate-bench"];
        let profile: &[&str] = if cfg!(debug_assertions) {
            &[]
        } else {
            &["--release"]
        };
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--bins"]);
        build.args(packages).args(profile);
        if !build.status()?.success() {
            return Err("the programs can not be built".into());
        }
    }
    Ok((beside("tollgate")?, beside("bare_proxy")?))
}
