//! Passes a prompt to the provider: on standard input, or as an argument where it reads no input;
//! and verifies afterwards that the answer is in the right conversation. It must not know which
//! provider it is, but for the trait.

use sessd_proto::{Fault, FaultCode, LaunchPlan};

use super::Turns;
use crate::providers::{PromptVia, Provider};
use crate::registry::homes::gate::LIVE_TIMEOUT;
use crate::registry::homes::{KnownHome, bound};
use crate::store::sessions::Stored;

/// The longest argument that the kernel accepts, in bytes.
const ARGUMENT_BYTES_MAX: usize = 128 * 1024 - 1;

/// True if the program takes the prompt from standard input.
fn reads_prompt(provider: &dyn Provider) -> bool {
    provider.turns().is_none_or(|turns| turns.prompt() == PromptVia::Stdin)
}

/// Tests that a prompt can be passed to the provider.
///
/// # Errors
/// Fails with `usage` if it can only be an argument and is too long or has a NUL byte.
pub(crate) fn must_fit(provider: &dyn Provider, prompt: &str) -> Result<(), Fault> {
    let what = match prompt {
        _ if reads_prompt(provider) => return Ok(()),
        _ if prompt.len() > ARGUMENT_BYTES_MAX => "is longer than 128 KiB",
        _ if prompt.contains('\0') => "contains a NUL byte",
        _ => return Ok(()),
    };
    let id = provider.id();
    let what = format!("{id} takes a prompt as an argument only, and this one {what}");
    Err(Fault::new(FaultCode::Usage, what)
        .hint("write it to a file and ask the agent to read that file"))
}

/// Adds the prompt to the plan's arguments if the provider reads no input; returns the input.
pub(crate) fn place(provider: &dyn Provider, plan: &mut LaunchPlan, prompt: String) -> String {
    if reads_prompt(provider) {
        return prompt;
    }
    plan.args.extend(["--".to_owned(), prompt]);
    String::new()
}

impl Turns {
    /// Tests that the provider continued the conversation, and not an empty one under the same id.
    ///
    /// # Errors
    /// Fails with `provider_failed` if it did not.
    pub(crate) async fn check_same_conversation(
        &self,
        known: &KnownHome,
        row: &Stored,
    ) -> Result<(), Fault> {
        let bound = bound(row);
        let was_replaced =
            move |known: &KnownHome| known.provider.discovery().was_replaced(&known.home, &bound);
        if self.homes.ask(known, LIVE_TIMEOUT, was_replaced).await? != Some(true) {
            return Ok(());
        }
        let what = format!(
            "{} has lost the session {} and answered in an empty one",
            known.provider.id(),
            row.session.short_id()
        );
        Err(Fault::new(FaultCode::ProviderFailed, what).hint("what it has now: `sessctl list`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers;

    #[test]
    fn prompt_is_an_argument_only_where_it_must_be() {
        let places = |reads: bool, prompt: &str| {
            let is_it = |it: &&&dyn Provider| reads_prompt(**it) == reads;
            let provider = *providers::ALL.iter().find(is_it).unwrap();
            must_fit(provider, prompt)?;
            let mut plan = LaunchPlan::default();
            let input = place(provider, &mut plan, prompt.to_owned());
            Ok::<_, Fault>((plan.args, input))
        };
        assert_eq!(places(true, "-hi").unwrap(), (vec![], "-hi".to_owned()));
        let argument = vec!["--".to_owned(), "-hi".to_owned()];
        assert_eq!(places(false, "-hi").unwrap(), (argument, String::new()));
        let long = "x".repeat(ARGUMENT_BYTES_MAX + 1);
        assert!(places(true, &long).is_ok() && places(false, &long[1..]).is_ok());
        for prompt in [&long, "a\0b"] {
            assert_eq!(places(false, prompt).unwrap_err().code, FaultCode::Usage);
        }
    }
}
