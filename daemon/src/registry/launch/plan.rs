//! Completes launch plans: adds environment, program and files to a provider's plan. It must not
//! know what the provider's arguments mean.

use std::path::Path;

use sessd_proto::{Fault, LaunchPlan};

use super::Launches;
use crate::launch_files;
use crate::providers::Launch;
use crate::registry::homes::KnownHome;
use crate::registry::homes::directories::disk_hangs;
use crate::registry::homes::gate::CHECK_TIMEOUT;

impl Launches {
    /// Adds the environment of home and agent and the configured program to a provider's plan, and
    /// writes the files that it names.
    ///
    /// # Errors
    /// Fails if a file cannot be written or the disk of the launch directory does not answer.
    pub(crate) async fn complete(
        &self,
        known: &KnownHome,
        launch: &Launch,
        mut plan: LaunchPlan,
    ) -> Result<LaunchPlan, Fault> {
        let agents = launch.env.0.iter().map(|(name, value)| (name, Some(value.clone())));
        let homes = known.home.env.iter().map(|(name, value)| (name, value.clone()));
        for (name, value) in homes.chain(agents) {
            plan.env.entry(name.clone()).or_insert(value);
        }
        if let Some(program) = self.config.programs.get(known.provider.id()) {
            plan.program = program.to_string_lossy().into_owned();
        }
        let (files, launch_of, named) = (known.clone(), launch.clone(), plan.clone());
        let write = move || launch_files::write(files.provider, &files.home, &launch_of, &named);
        let path = known.home.path.clone();
        let written = self.homes.directories.pass(&path, CHECK_TIMEOUT, write).await?;
        written.map_err(|_| disk_hangs(&path.to_string_lossy()))??;
        self.without_other_servers(known, launch, plan).await
    }

    /// Runs the planning of a provider, which may read its home, where a disk that hangs delays no
    /// other call.
    ///
    /// # Errors
    /// Fails with `environment` if the disk of the home does not answer.
    pub(crate) async fn ask_plan<T: Send + 'static>(
        &self,
        known: &KnownHome,
        plan: impl FnOnce(&KnownHome) -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let (path, known) = (known.home.path.clone(), known.clone());
        let planned = self.homes.directories.pass(&path, CHECK_TIMEOUT, move || plan(&known));
        planned.await?.map_err(|_| disk_hangs(&path.to_string_lossy()))
    }

    /// Changes the plan of an agent with MCP servers of its own so that none of the servers in the
    /// settings of the user or the directory is started.
    async fn without_other_servers(
        &self,
        known: &KnownHome,
        launch: &Launch,
        mut plan: LaunchPlan,
    ) -> Result<LaunchPlan, Fault> {
        if launch.mcp_servers.is_empty() {
            return Ok(plan);
        }
        let (cwd, known, launch) = (plan.cwd.clone(), known.clone(), launch.clone());
        let look = move || {
            known.provider.launcher().without_other_servers(&known.home, &launch, &mut plan);
            plan
        };
        let looked = self.homes.directories.pass(Path::new(&cwd), CHECK_TIMEOUT, look).await?;
        looked.map_err(|_| disk_hangs(&cwd))
    }
}
