//! What an agent asks for, as Gemini CLI's arguments and files.

use super::super::{Accepts, Launch, Permission};

pub(super) const ACCEPTS: Accepts = Accepts {
    model: true,
    permissions: &[Permission::Ask, Permission::Edit, Permission::All],
    system_prompt: false,
    profile: false,
    mcp_servers: false,
};

pub(super) fn arguments(launch: &Launch) -> Vec<String> {
    let mut args = Vec::new();
    args.extend(launch.model.as_ref().map(|model| format!("--model={model}")));
    args.extend(launch.permission.map(|permission| {
        let mode = match permission {
            Permission::Ask => "default",
            Permission::Edit => "auto_edit",
            Permission::All => "yolo",
        };
        format!("--approval-mode={mode}")
    }));
    args.extend(launch.args.clone());
    args
}
