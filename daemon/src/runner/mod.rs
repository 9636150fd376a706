//! Runs a launch plan in a process group of its own: writes a prompt to its standard input, hands
//! out its lines, and ends the whole group by a deadline. Knows no provider and no session.

use std::future::pending;
use std::io;
use std::os::fd::AsFd;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use sessd_proto::environment::is_supervisors;
use sessd_proto::{Environment, LaunchPlan};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use self::pipes::{feed, grace_after, hand_out, keep_end, text_of};
use crate::{limits, process, system};

mod pipes;

/// How long a group may take to end after SIGTERM, and to close its pipes after its leader's end.
const END_GRACE: Duration = Duration::from_secs(2);

/// Limits of a process.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Time from start to end.
    pub deadline: Duration,
    /// Bytes on standard output.
    pub output_bytes_max: usize,
}

/// A started process, the leader of its group.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pid: u32,
}

/// The result of a process.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status; `None` if we ended it.
    pub status: Option<ExitStatus>,
    /// Why we ended it; `None` if it ended by itself.
    pub cause: Option<Cause>,
    /// The end of its standard error.
    pub stderr: String,
}

/// Why a process was ended by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It took too long.
    Deadline,
    /// It printed too much.
    Flood,
    /// Its pipes failed.
    Io,
    /// The receiver of its lines is gone.
    ReceiverGone,
    /// The caller's `stop` has completed.
    Stopped,
}

impl Process {
    /// Starts a plan. The environment is `base` without our supervisor's variables, with the
    /// plan's changes.
    ///
    /// # Errors
    /// Fails if the program or the directory does not exist, or must not be used.
    pub fn start(plan: &LaunchPlan, base: &Environment) -> io::Result<Self> {
        let mut command = Command::new(&plan.program);
        command
            .args(&plan.args)
            .current_dir(&plan.cwd)
            .env_clear()
            .envs(base.0.iter().filter(|(name, _)| !is_supervisors(name)))
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for (name, value) in &plan.env {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        system::prepare_child(&mut command, limits::inherited());
        let child = command.spawn()?;
        let pid = child.id().ok_or_else(|| io::Error::other("the process has no pid"))?;
        Ok(Self { child, pid })
    }

    /// Returns its pid, which is also the id of its group.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Writes the input, hands out every line of standard output, several at a time, and returns
    /// when the whole group has ended: by itself, at a limit, or because `stop` has completed.
    ///
    /// A process that ends by itself first closes its pipes, or leaves them to others for
    /// `END_GRACE` at most; then its exit status is collected. In every case what is left of the
    /// group is ended, and then every process outside of the group that still has the output pipe,
    /// which it can only have inherited.
    pub async fn talk<T>(
        mut self,
        input: String,
        limits: Limits,
        lines: mpsc::Sender<Vec<String>>,
        stop: impl Future<Output = T>,
    ) -> Ended {
        let stdout = self.child.stdout.as_ref();
        // Kept open until no other process has it, so that its inode number is not reused.
        let pipe = stdout.and_then(|stdout| stdout.as_fd().try_clone_to_owned().ok());
        let mut stderr = Vec::new();
        let served = self.serve_pipes(&input, limits.output_bytes_max, lines, &mut stderr);
        let (cause, is_closed) = tokio::select! {
            served = timeout(limits.deadline, served) => match served {
                Err(_) => (Some(Cause::Deadline), false),
                Ok(Err(cause)) => (Some(cause), false),
                Ok(Ok(is_closed)) => (None, is_closed),
            },
            _ = stop => (Some(Cause::Stopped), false),
        };
        let status = match cause {
            None => timeout(END_GRACE, self.child.wait()).await.ok().and_then(Result::ok),
            Some(_) => None,
        };
        self.end_group().await;
        if let Some(pipe) = pipe.filter(|_| !is_closed) {
            let _ = tokio::task::spawn_blocking(move || process::end_holders(&pipe)).await;
        }
        Ended { status, cause, stderr: text_of(&stderr) }
    }

    /// Serves the three pipes at the same time. Returns true once all are closed, or false if
    /// `END_GRACE` after the leader's end some are not: a background process has inherited them
    /// and may keep them open for ever.
    async fn serve_pipes(
        &mut self,
        input: &str,
        output_bytes_max: usize,
        lines: mpsc::Sender<Vec<String>>,
        stderr_end: &mut Vec<u8>,
    ) -> Result<bool, Cause> {
        let Child { stdin, stdout, stderr, .. } = &mut self.child;
        let (stdin, stdout, stderr) = (stdin.take(), stdout.take(), stderr.take());
        // Dropping `alive` tells the two below that the leader has ended.
        let (alive, end) = watch::channel(());
        let leader = async {
            let _ = self.child.wait().await;
            drop(alive);
            pending().await
        };
        let output = async {
            match stdout {
                Some(stdout) => hand_out(stdout, output_bytes_max, lines, end.clone()).await,
                None => Ok(true),
            }
        };
        let others = async {
            let done = async { tokio::join!(feed(stdin, input), keep_end(stderr, stderr_end)) };
            let over = grace_after(end.clone(), END_GRACE);
            Ok(tokio::select! { _ = done => true, () = over => false })
        };
        let pipes = async { tokio::try_join!(output, others) };
        let closed = tokio::select! { closed = pipes => closed, never = leader => never };
        closed.map(|(output, others)| output && others)
    }

    /// Gives its pipes to `talk`, and ends the whole group when that is done, or at the deadline.
    /// Returns the result of `talk` and the end of standard error.
    pub async fn dialogue<T, F: Future<Output = io::Result<T>>>(
        mut self,
        deadline: Duration,
        talk: impl FnOnce(ChildStdin, ChildStdout) -> F,
    ) -> (io::Result<T>, String) {
        let pipes = self.child.stdin.take().zip(self.child.stdout.take());
        let mut kept = Vec::new();
        let stderr = keep_end(self.child.stderr.take(), &mut kept);
        let said = async {
            let (stdin, stdout) = pipes.ok_or(io::ErrorKind::BrokenPipe)?;
            let talk = timeout(deadline, talk(stdin, stdout));
            talk.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        };
        let ended = async {
            let said = said.await;
            self.end_group().await;
            said
        };
        let said = {
            let (mut ended, mut stderr) = (pin!(ended), pin!(stderr));
            tokio::select! {
                said = &mut ended => {
                    let _ = timeout(END_GRACE, stderr).await;
                    said
                }
                () = &mut stderr => ended.await,
            }
        };
        (said, text_of(&kept))
    }

    /// Kills the whole group without having served its pipes.
    pub async fn end(mut self) {
        end_group(self.pid, Signal::KILL);
        let _ = self.child.wait().await;
    }

    async fn end_group(&mut self) {
        end_group(self.pid, Signal::TERM);
        let _ = timeout(END_GRACE, self.child.wait()).await;
        end_group(self.pid, Signal::KILL);
        let _ = self.child.wait().await;
    }
}

/// Sends a signal to a whole process group, if it still exists.
pub fn end_group(pgid: u32, signal: Signal) {
    if let Some(pgid) = i32::try_from(pgid).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(pgid, signal);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::time::sleep;

    use super::*;

    const LIMITS: Limits =
        Limits { deadline: Duration::from_secs(20), output_bytes_max: 1024 * 1024 };

    async fn run(script: &str, limits: Limits) -> (Ended, Vec<String>) {
        run_slowly(script, limits, Duration::ZERO).await
    }

    /// Starts to receive after `stalls_for`.
    async fn run_slowly(
        script: &str,
        limits: Limits,
        stalls_for: Duration,
    ) -> (Ended, Vec<String>) {
        let plan = LaunchPlan {
            program: "/bin/sh".to_owned(),
            args: vec!["-c".to_owned(), script.to_owned()],
            cwd: "/".to_owned(),
            env: [("GONE".to_owned(), None), ("NEW".to_owned(), Some("n".to_owned()))].into(),
        };
        let base = ["GONE", "KEPT", "NOTIFY_SOCKET"].map(|name| (name.to_owned(), "x".to_owned()));
        let process = Process::start(&plan, &Environment(base.into())).unwrap();
        let (sender, mut receiver) = mpsc::channel(1);
        let never = std::future::pending::<()>();
        let collect = async {
            let mut lines = Vec::new();
            sleep(stalls_for).await;
            while let Some(batch) = receiver.recv().await {
                lines.extend(batch);
            }
            lines
        };
        tokio::join!(process.talk("the prompt\n".to_owned(), limits, sender, never), collect)
    }

    #[tokio::test]
    async fn prompt_goes_in_and_lines_come_out() {
        let (ended, lines) =
            run("cat; printf 'torn'; printf '\\033[91mwhy\\033[0m\\n' >&2; exit 3", LIMITS).await;
        assert_eq!(lines, ["the prompt", "torn"]);
        assert_eq!(ended.status.unwrap().code(), Some(3));
        assert_eq!(ended.stderr, "why");
    }

    #[tokio::test]
    async fn environment_is_the_base_with_the_plans_changes() {
        let (_, lines) = run("echo $GONE,$KEPT,$NEW,$NOTIFY_SOCKET", LIMITS).await;
        assert_eq!(lines, [",x,n,"]);
    }

    #[tokio::test]
    async fn hanging_process_is_ended_with_its_children() {
        // Ample for its first line, on a busy machine too.
        let limits = Limits { deadline: Duration::from_secs(3), ..LIMITS };
        let (ended, lines) = run("sleep 1000 & echo $!; trap '' TERM; wait; wait", limits).await;
        assert_eq!(ended.cause, Some(Cause::Deadline));
        let child: u32 = lines[0].parse().unwrap();
        assert_eq!(crate::process::start_ticks(child), None);
    }

    #[tokio::test]
    async fn background_process_is_ended_without_delay() {
        let (ended, lines) = run("sleep 1000 & echo $!", LIMITS).await;
        assert_eq!((ended.cause, ended.status.unwrap().code()), (None, Some(0)));
        let left = lines[0].parse().unwrap();
        let gone = async {
            while crate::process::start_ticks(left).is_some() {
                tokio::task::yield_now().await;
            }
        };
        timeout(LIMITS.deadline, gone).await.expect("the background process is ended");
    }

    #[tokio::test]
    async fn all_output_is_read_however_slow_the_receiver_is() {
        let script = "head -c 60000 /dev/zero | tr '\\0' 'x' | fold -w 99; echo; echo last";
        let slow = END_GRACE + Duration::from_millis(500);
        let (ended, lines) = run_slowly(script, LIMITS, slow).await;
        assert_eq!((ended.cause, ended.status.unwrap().code()), (None, Some(0)));
        assert_eq!(lines.last().unwrap(), "last");
    }

    #[tokio::test]
    async fn background_output_does_not_delay_the_end_for_long() {
        let chatter = "(while :; do echo on; sleep 0.1; done) & echo off";
        let started = Instant::now();
        let (ended, _) = run(chatter, LIMITS).await;
        assert_eq!((ended.cause, ended.status.unwrap().code()), (None, Some(0)));
        assert!(started.elapsed() < LIMITS.deadline / 2, "{:?}", started.elapsed());
    }

    #[tokio::test]
    async fn flooding_process_is_ended() {
        let limits = Limits { output_bytes_max: 100_000, ..LIMITS };
        let (ended, _) =
            run("while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done", limits).await;
        assert_eq!(ended.cause, Some(Cause::Flood));
    }
}
