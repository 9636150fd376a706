//! `sessctl jobs`.

use clap::Subcommand;
use sessd_proto::Fault;
use sessd_proto::job::{Job, JobsRequest, RunJobRequest};

use crate::Context;

/// List the daemon's recurring jobs and their last results
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Run a job now and wait for its result
    Run {
        /// Name of the job
        job: String,
    },
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result<(), Fault> {
    let mut client = context.connect()?;
    let jobs = match args.action {
        None => client.jobs(JobsRequest {})?.jobs,
        Some(Action::Run { job }) => vec![client.run_job(RunJobRequest { job })?],
    };
    if context.output.is_json() {
        return context.output.json(&serde_json::json!({ "jobs": jobs }));
    }
    let output = &context.output;
    let row = |job: &Job| {
        let last = job.last.as_ref();
        let result = last.map_or_else(|| "-".to_owned(), |run| run.result.0.to_string());
        vec![
            job.name.clone(),
            job.schedule.clone(),
            output.moment(last.map(|run| run.started)),
            output.moment(job.next_due),
            if job.running { "running".to_owned() } else { result },
        ]
    };
    let rows: Vec<_> = jobs.iter().map(row).collect();
    output.table(&["NAME", "SCHEDULE (UTC)", "LAST", "NEXT", "RESULT"], &rows)
}
