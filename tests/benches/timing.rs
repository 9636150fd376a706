//! Timing whole processes and calls, interleaved, so that noise hits all alike.

use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sessd_tests::sandbox::Sandbox;

/// Something to measure.
pub(crate) struct Subject<'a> {
    pub name: &'static str,
    /// Runs it once and returns the time it took, without preparation and cleaning up.
    pub run: Box<dyn FnMut() -> Duration + 'a>,
}

impl<'a> Subject<'a> {
    /// A subject of which all counts.
    pub(crate) fn new(name: &'static str, mut run: impl FnMut() + 'a) -> Self {
        let timed = move || {
            let started = Instant::now();
            run();
            started.elapsed()
        };
        Self { name, run: Box::new(timed) }
    }
}

/// Runs of a process that are timed together: the program that times them is started once.
const RUNS: &str = "10";

/// Returns a subject that runs a whole process in a sandbox: the median of some runs.
pub(crate) fn process(
    name: &'static str,
    sandbox: &Sandbox,
    program: &str,
    arguments: &[&str],
) -> Subject<'static> {
    let words = [&[RUNS, program][..], arguments].concat();
    let timer = template(sandbox, env!("CARGO_BIN_EXE_spawn-times"), &words);
    let run = move || {
        let output = timer().stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let printed = String::from_utf8(output.stdout).unwrap();
        median(printed.lines().map(|line| Duration::from_nanos(line.parse().unwrap())).collect())
    };
    Subject { name, run: Box::new(run) }
}

/// Makes the same command in a sandbox again and again.
pub(crate) fn template(
    sandbox: &Sandbox,
    program: &str,
    arguments: &[&str],
) -> impl Fn() -> Command + use<> {
    let model = sandbox.command(program);
    let pair = |(name, value): (&OsStr, Option<&OsStr>)| Some((name.to_owned(), value?.to_owned()));
    let environment: Vec<_> = model.get_envs().filter_map(pair).collect();
    let program = program.to_owned();
    let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
    let home = sandbox.home();
    move || {
        let mut command = Command::new(&program);
        command.args(&arguments).env_clear().current_dir(&home);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// The medians of the subjects, each run `rounds` times in turn.
pub(crate) fn medians(subjects: &mut [Subject<'_>], rounds: usize) -> Vec<Duration> {
    times(subjects, rounds).into_iter().map(median).collect()
}

/// The times of the subjects, each run `rounds` times in turn.
pub(crate) fn times(subjects: &mut [Subject<'_>], rounds: usize) -> Vec<Vec<Duration>> {
    let mut times = vec![Vec::with_capacity(rounds); subjects.len()];
    for round in 0..rounds + 2 {
        for (subject, times) in subjects.iter_mut().zip(&mut times) {
            let time = (subject.run)();
            // The first rounds warm the caches.
            if round >= 2 {
                times.push(time);
            }
        }
    }
    times
}

pub(crate) fn median<T: Ord + Copy>(mut values: Vec<T>) -> T {
    values.sort_unstable();
    values[values.len() / 2]
}

pub(crate) fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}

pub(crate) fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

pub(crate) fn us(time: Duration) -> String {
    format!("{:.1} µs", time.as_secs_f64() * 1e6)
}
