//! An interactive list to pick a session from, filtered by typing.

use inquire::{InquireError, Select};
use sessd_proto::{Fault, FaultCode, Session};

use crate::output::{Output, clean};

/// Width of the mark before each line, in columns.
const MARK: usize = 2;

/// Lets the user pick one session; Enter takes the newest.
///
/// # Errors
/// [`FaultCode::NotFound`] if the user cancels.
pub(crate) fn pick(
    output: &Output,
    home: Option<&str>,
    sessions: Vec<Session>,
) -> Result<Session, Fault> {
    let line = |session: &Session| {
        let Session { id, provider, project, title, last_activity, .. } = session;
        let title = title.as_deref().unwrap_or("-");
        let line = format!(
            "{}  {:>4}  {provider:8}  {}  {title}",
            output.id(id),
            output.moment(Some(*last_activity)),
            output.dir(project, home),
        );
        output.cut(&clean(&line), MARK)
    };
    let lines: Vec<String> = sessions.iter().map(line).collect();
    let picked = Select::new("resume", lines)
        .with_help_message("type to filter, ↑↓ to move, Enter to resume, Esc to cancel")
        .with_page_size(15)
        .raw_prompt();
    match picked {
        Ok(choice) => sessions
            .into_iter()
            .nth(choice.index)
            .ok_or_else(|| Fault::internal("the choice is not in the list")),
        Err(InquireError::OperationCanceled | InquireError::OperationInterrupted) => {
            Err(Fault::new(FaultCode::NotFound, "no session picked")
                .hint("resume one by its id: `sessctl resume SELECTOR`"))
        }
        Err(error) => Err(Fault::internal(error)),
    }
}
