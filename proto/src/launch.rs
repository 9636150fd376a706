//! How to start a provider: plain data, run blindly by whoever holds it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Environment, Session};

/// What to execute, where, and with which changes to the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LaunchPlan {
    /// A bare name to be found on PATH, or an absolute path.
    pub program: String,
    /// The arguments after the program's name.
    pub args: Vec<String>,
    /// The directory to start in.
    pub cwd: String,
    /// Variables to set; `null` means unset.
    pub env: BTreeMap<String, Option<String>>,
}

/// Which session to resume, and how.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ResumeRequest {
    /// The session; `null` means the newest resumable one of `project`.
    pub selector: Option<String>,
    /// Without a selector: any directory of the project.
    pub project: Option<String>,
    /// Start there instead of the launch directory, where the provider can resume anywhere.
    pub cwd: Option<String>,
    /// Try although the status is unknown.
    pub force: bool,
    /// Only answer the plan, take no lease.
    pub plan_only: bool,
    /// Continue a copy of it, as a session of its own with this id, where the provider can: a
    /// UUID made by the caller, so that a repeated request makes no second one.
    pub fork_as: Option<String>,
    /// Ask the process that has its lease to end first; never one that was not started by us.
    pub steal: bool,
    /// How long to wait for whoever has it, in milliseconds, at most 60,000.
    pub wait_ms: u32,
    /// The caller's variables, as far as providers declared an interest in them.
    pub environment: Environment,
}

/// A session that may be resumed, and how.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResumeResponse {
    /// The session.
    pub session: Session,
    /// What to execute.
    pub plan: LaunchPlan,
}

/// A session to be started by `resume`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CreateRequest {
    /// A UUID made by the caller: the session's id. A repeated request makes no second one.
    pub id: String,
    /// The launch profile; every provider's name is one.
    pub agent: String,
    /// Where to start.
    pub cwd: String,
    /// Whether a new session starts there even if its agent has a directory of its own.
    pub cwd_given: bool,
    /// Our own time to live, in milliseconds after the last activity.
    pub ttl_ms: Option<i64>,
    /// The caller's variables, as far as providers declared an interest in them.
    pub environment: Environment,
}

/// A session that was registered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CreateResponse {
    /// The session; its status is `unknown`, its reason `starting`.
    pub session: Session,
}

/// The name of a variable; a daemon that answers many need not copy them.
pub type Name = Cow<'static, str>;

/// Asks which variables of the caller's environment providers want to know.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EnvironmentRequest {}
