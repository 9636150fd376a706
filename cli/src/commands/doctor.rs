//! `sessctl doctor`.

use sessd_proto::doctor::{DoctorRequest, Finding, Level};
use sessd_proto::{Fault, FaultCode};

use crate::Context;
use crate::output::{clean, count};

/// Diagnose the environment: PATH, programs, homes, clock
///
/// Also checks permissions. Exits with 1 if a problem is found.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(context: &mut Context, _: &Args) -> Result<(), Fault> {
    let report = context.connect()?.doctor(DoctorRequest {})?;
    if context.output.is_json() {
        context.output.json(&report)?;
    } else {
        for finding in &report.findings {
            context.output.data(&line(finding))?;
        }
    }
    match report.findings.iter().filter(|it| it.level == Level::Problem).count() {
        0 => Ok(()),
        problems => {
            let what = format!("found {}", count(problems, "problem"));
            Err(Fault::new(FaultCode::Environment, what))
        }
    }
}

fn line(finding: &Finding) -> String {
    let Finding { level, subject, message, hint } = finding;
    let hint =
        hint.as_ref().map(|hint| format!("\n{:18}hint: {}", "", clean(hint))).unwrap_or_default();
    format!("{level:8} {subject:8} {}{hint}\n", clean(message))
}
