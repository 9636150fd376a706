//! Where a prompt goes: to standard input, or into the arguments of a program that takes it
//! nowhere else; and whether it has reached the conversation that was meant.

use sessd_proto::{Fault, FaultCode, LaunchPlan};

use super::homes::KnownHome;
use super::patience::LOOK;
use super::{Registry, checks};
use crate::providers::{PromptVia, Provider};
use crate::store::sessions::Stored;

/// What the kernel takes as one argument, in bytes.
const ARGUMENT_BYTES_MAX: usize = 128 * 1024 - 1;

/// True if the program takes the prompt from standard input.
fn reads_prompt(provider: &dyn Provider) -> bool {
    provider.turns().is_none_or(|turns| turns.prompt() == PromptVia::Stdin)
}

/// Refuses a prompt that cannot be handed to the program.
pub(super) fn must_fit(provider: &dyn Provider, prompt: &str) -> Result<(), Fault> {
    let what = match prompt {
        _ if reads_prompt(provider) => return Ok(()),
        _ if prompt.len() > ARGUMENT_BYTES_MAX => "is longer than 128 KiB",
        _ if prompt.contains('\0') => "has a NUL character",
        _ => return Ok(()),
    };
    let id = provider.id();
    let what = format!("{id} takes a prompt as an argument only, and this one {what}");
    Err(Fault::new(FaultCode::Usage, what).hint("put it into a file, and let it read that"))
}

/// Puts the prompt into the plan if need be; answers what goes to standard input.
pub(super) fn place(provider: &dyn Provider, plan: &mut LaunchPlan, prompt: String) -> String {
    if reads_prompt(provider) {
        return prompt;
    }
    plan.args.extend(["--".to_owned(), prompt]);
    String::new()
}

impl Registry {
    /// Refuses an answer that was given in another conversation under the same id.
    pub(super) async fn must_go_on(&self, known: &KnownHome, row: &Stored) -> Result<(), Fault> {
        let bound = checks::bound(row);
        let began_anew =
            move |known: &KnownHome| known.provider.discovery().was_replaced(&known.home, &bound);
        if self.ask_home(known, LOOK, began_anew).await? != Some(true) {
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
    fn a_prompt_is_an_argument_only_where_it_must_be_and_can_be() {
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
