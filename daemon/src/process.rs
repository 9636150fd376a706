//! Facts about processes from `/proc`, and signals to them. Starts none and knows no session.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::param::clock_ticks_per_second;
use rustix::process::{
    Pid, PidfdFlags, Signal, getpgid, getpid, kill_process, kill_process_group, pidfd_open,
    pidfd_send_signal, test_kill_process_group,
};
use rustix::time::{ClockId, clock_gettime};

/// How long a process may take to obey SIGTERM before it is killed.
const TERM_GRACE: Duration = Duration::from_secs(2);

/// Adjustment of the wall clock between the start of a process and its first file, in
/// milliseconds, up to which the process does not look younger than the file.
const CLOCK_SLACK_MS: i64 = 5_000;

/// Scans for processes to end; one that is being forked may be missed by the first.
const SCANS_MAX: usize = 3;

/// Returns when a process was started, in clock ticks since boot. Pids are reused; a pid with
/// its start time is not. `None` if there is no such process, or only its zombie.
#[must_use]
pub fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may contain anything, so fields are counted from its closing parenthesis.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// A process as a file of its own describes it: a "pid file", which outlives a kill.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Its process id, in its own pid namespace.
    pub pid: u32,
    /// The inode number of that namespace, where the file has it.
    pub namespace: Option<u64>,
    /// The id of the machine, where the file has it.
    pub machine_id: Option<String>,
    /// The kernel's id of the boot, where the file has it.
    pub boot_id: Option<String>,
    /// When it was started, in clock ticks since boot, where the file has it.
    pub start_ticks: Option<u64>,
    /// When it had certainly been started, in milliseconds since the epoch: the time in the file,
    /// else the file's modification time.
    pub written_at_ms: Option<i64>,
}

/// The state of a recorded process now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It runs, and it is the one that was recorded.
    Runs,
    /// It has ended; its pid may have been given to another process.
    Ended,
    /// It is in another pid namespace or on another machine, so its pid says nothing here.
    OutOfSight,
}

impl Recorded {
    /// Returns what has become of the process.
    #[must_use]
    pub fn fate(&self) -> Fate {
        let is_other = |recorded: &Option<String>, own: String| {
            recorded.as_ref().is_some_and(|it| !it.is_empty() && !own.is_empty() && *it != own)
        };
        let namespace = || fs::metadata("/proc/self/ns/pid").ok().map(|it| it.ino());
        if self.namespace.is_some_and(|it| namespace().is_some_and(|own| own != it))
            || is_other(&self.machine_id, machine_id())
        {
            return Fate::OutOfSight;
        }
        let Some(ticks) = start_ticks(self.pid) else { return Fate::Ended };
        let is_another = is_other(&self.boot_id, boot_id())
            || match self.start_ticks {
                Some(recorded) => recorded != ticks,
                None => self.written_at_ms.is_some_and(|at| began_after(ticks, at)),
            };
        if is_another { Fate::Ended } else { Fate::Runs }
    }
}

/// True if a process that was started at `ticks` did not exist at a time of the wall clock.
fn began_after(ticks: u64, at_ms: i64) -> bool {
    let [wall, boot] = [ClockId::Realtime, ClockId::Boottime].map(|clock| {
        let time = clock_gettime(clock);
        time.tv_sec * 1_000 + time.tv_nsec / 1_000_000
    });
    let started_ms = ticks.saturating_mul(1_000) / clock_ticks_per_second().max(1);
    let started_at_ms = i64::try_from(started_ms).unwrap_or(i64::MAX).saturating_add(wall - boot);
    started_at_ms > at_ms.saturating_add(CLOCK_SLACK_MS)
}

/// Returns the id of this machine; empty if it has none.
fn machine_id() -> String {
    fs::read_to_string("/etc/machine-id").unwrap_or_default().trim().to_owned()
}

/// True if a process descends from `ancestor`.
#[must_use]
pub fn is_below(pid: u32, ancestor: u32) -> bool {
    std::iter::successors(parent(pid), |pid| parent(*pid)).any(|parent| parent == ancestor)
}

fn parent(pid: u32) -> Option<u32> {
    field(pid, 1).filter(|parent| *parent > 0)
}

/// Returns a field of `/proc/<pid>/stat`, counted from the state.
fn field(pid: u32, at: usize) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(at)?.parse().ok()
}

/// Sends SIGTERM to a process, or to its whole group if it leads one.
pub fn ask_to_end(pid: u32) {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    // Some launchers do not pass signals on; a shell's job leads a group of its own.
    let leads = getpgid(Some(pid)) == Ok(pid);
    let _ =
        if leads { kill_process_group(pid, Signal::TERM) } else { kill_process(pid, Signal::TERM) };
}

/// True while the process group with this leader has members.
#[must_use]
pub fn has_group(leader: u32) -> bool {
    let leader = i32::try_from(leader).ok().and_then(Pid::from_raw);
    leader.is_some_and(|leader| test_kill_process_group(leader).is_ok())
}

/// Ends every process with this `NAME=value` in its environment, in whatever process group it
/// is, with SIGTERM first. Returns their pids.
pub fn end_marked(variable: &str) -> Vec<u32> {
    let is_marked = |pid: u32| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|it| it == variable.as_bytes())
    };
    let mut ended = Vec::new();
    // A process that starts during a scan has a parent that this scan ends.
    for _ in 0..SCANS_MAX {
        let (pids, found): (Vec<_>, Vec<_>) = others().filter(|(pid, _)| is_marked(*pid)).unzip();
        if found.is_empty() {
            break;
        }
        end_all(&found);
        ended.extend(pids);
    }
    ended
}

/// Ends every other process that has this pipe open, in whatever process group it is, with
/// SIGTERM first.
pub fn end_holders(pipe: impl AsFd) {
    let Ok(stat) = rustix::fs::fstat(pipe) else { return };
    let name = format!("pipe:[{}]", stat.st_ino);
    let holds = |pid: u32| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut links = open.filter_map(|fd| fs::read_link(fd.path()).ok());
        links.any(|link| link.as_os_str() == &*name)
    };
    // Between fork and exec a child of ours has all of our files open. It is recognised by our
    // own command line.
    let ours = (std::process::id(), command(std::process::id()));
    let is_forking = |pid: u32| (parent(pid), command(pid)) == (Some(ours.0), ours.1.clone());
    let is_holder = |pid: u32| !is_forking(pid) && holds(pid);
    let found: Vec<OwnedFd> = others().filter(|(pid, _)| is_holder(*pid)).map(|it| it.1).collect();
    end_all(&found);
}

/// Sends SIGTERM to processes, and SIGKILL to those that have not ended in time.
fn end_all(processes: &[OwnedFd]) {
    for process in processes {
        let _ = pidfd_send_signal(process, Signal::TERM);
    }
    let give_up = Instant::now() + TERM_GRACE;
    for process in processes {
        let left = give_up.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).ok();
        let mut ended = [PollFd::new(process, PollFlags::IN)];
        let _ = rustix::event::poll(&mut ended, left.as_ref());
        let _ = pidfd_send_signal(process, Signal::KILL);
    }
}

/// Returns every process but this one. Its pidfd is opened before the process is examined, so
/// that a signal cannot reach another process with a reused pid.
fn others() -> impl Iterator<Item = (u32, OwnedFd)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let pids = pids.filter_map(Pid::from_raw).filter(|pid| *pid != getpid());
    pids.filter_map(|pid| {
        let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        Some((pid.as_raw_nonzero().get().unsigned_abs(), process))
    })
}

/// Returns the kernel's id of this boot.
#[must_use]
pub fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// Returns the command line of a process for display, at most 200 characters.
#[must_use]
pub fn command(pid: u32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let words: Vec<&str> = text.split('\0').filter(|word| !word.is_empty()).collect();
    let line: String = words.join(" ").chars().take(200).collect();
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_a_start_and_a_command() {
        assert!(start_ticks(std::process::id()).unwrap() > 0);
        assert!(command(std::process::id()).is_some());
        assert_eq!(start_ticks(u32::MAX), None);
        assert_eq!(boot_id().len(), 36);
        assert!(is_below(std::process::id(), 1) && !is_below(1, std::process::id()));
    }
    #[test]
    fn file_of_a_reused_pid_or_of_another_place_is_found_out() {
        let pid = std::process::id();
        let now = i64::try_from(
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis(),
        );
        let own = Recorded { pid, written_at_ms: now.ok(), ..Recorded::default() };
        let fate = |change: fn(&mut Recorded)| {
            let mut recorded = own.clone();
            change(&mut recorded);
            recorded.fate()
        };
        assert_eq!(fate(|_| {}), Fate::Runs);
        assert_eq!(fate(|it| it.written_at_ms = None), Fate::Runs);
        assert_eq!(fate(|it| it.written_at_ms = Some(1_700_000_000_000)), Fate::Ended);
        assert_eq!(fate(|it| it.start_ticks = Some(1)), Fate::Ended);
        assert_eq!(fate(|it| it.boot_id = Some("another".to_owned())), Fate::Ended);
        assert_eq!(fate(|it| it.namespace = Some(1)), Fate::OutOfSight);
        assert_eq!(
            fate(|it| it.machine_id = Some("another".to_owned())),
            match machine_id() {
                own if own.is_empty() => Fate::Runs,
                _ => Fate::OutOfSight,
            }
        );
        // The exact start decides, whatever the wall clock was set to in between.
        let exact = Recorded { start_ticks: start_ticks(pid), written_at_ms: Some(1), ..own };
        assert_eq!(exact.fate(), Fate::Runs);
    }
}
