//! Launch plans: how to start a provider, as plain data that can be run without further knowledge.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::session::UnreadablePart;
use crate::{Environment, Session};

/// A command line, its directory, and changes to the environment of the process that runs it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LaunchPlan {
    /// A name to look up on PATH, or an absolute path.
    pub program: String,
    /// Arguments, without the program's name.
    pub args: Vec<String>,
    /// Absolute path of the directory to start in.
    pub cwd: String,
    /// Environment variables to set; `null` means to unset.
    pub env: BTreeMap<String, Option<String>>,
}

/// Request of `resume`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ResumeRequest {
    /// Selector of the session; `null` means the newest resumable session of `project`.
    pub selector: Option<String>,
    /// Without a selector: absolute path of any directory in the project.
    pub project: Option<String>,
    /// Directory to start in instead of the launch directory, if the provider allows another.
    pub cwd: Option<String>,
    /// Try even if the status is `unknown`.
    pub force: bool,
    /// Returns the plan without taking the lease.
    pub plan_only: bool,
    /// Continue a copy as a new session with this id, if the provider can fork. A UUID made by the
    /// caller, so that repeating the request creates no second copy.
    pub fork_as: Option<String>,
    /// Ask the process that has the lease to exit first; never one that sessd did not start.
    pub steal: bool,
    /// Time to wait until the session is free, in milliseconds, at most 60,000.
    pub wait_ms: u32,
    /// The caller's environment variables that `environment` names.
    pub environment: Environment,
}

/// Response of `resume`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResumeResponse {
    /// The session.
    pub session: Session,
    /// The plan to run.
    pub plan: LaunchPlan,
    /// Parts of providers' homes that cannot be read, so that a newer session may have been missed;
    /// at most 100.
    pub unreadable: Vec<UnreadablePart>,
}

/// Request of `create`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CreateRequest {
    /// Id of the session: a UUID made by the caller, so that repeating the request creates no
    /// second one.
    pub id: String,
    /// Name of the agent; every provider's name is one.
    pub agent: String,
    /// Absolute path of the directory to start in.
    pub cwd: String,
    /// True if `cwd` takes precedence over the agent's own directory.
    pub cwd_given: bool,
    /// Time to live in milliseconds, counted from the last activity.
    pub ttl_ms: Option<i64>,
    /// The caller's environment variables that `environment` names.
    pub environment: Environment,
}

/// Response of `create`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CreateResponse {
    /// The registered session; its status is `unknown`, with the reason `starting`.
    pub session: Session,
}

/// Name of an environment variable. Borrowed in the daemon, which returns the same names to all.
pub type Name = Cow<'static, str>;

/// Request of `environment`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EnvironmentRequest {}
