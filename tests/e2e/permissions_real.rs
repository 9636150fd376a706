//! Promise: whatever an agent may do without asking, the real CLI takes the flags for it. That
//! none of them is a default is tested where they are made.

use sessd::providers::{self, Permission};
use sessd_tests::real_cli::{Claude, Codex, Gemini, KILO, OPENCODE, Qwen, RealCli};

use crate::CURSOR;
use crate::scene::{QUICK, Scene};

#[test]
fn permissions_are_taken_by_claude() {
    are_taken(&Claude);
}

#[test]
fn permissions_are_taken_by_codex() {
    are_taken(&Codex);
}

#[test]
fn permissions_are_taken_by_gemini() {
    are_taken(&Gemini);
}

#[test]
fn permissions_are_taken_by_opencode() {
    are_taken(&OPENCODE);
}

#[test]
fn permissions_are_taken_by_kilo() {
    are_taken(&KILO);
}

#[test]
fn permissions_are_taken_by_qwen() {
    are_taken(&Qwen);
}

#[test]
fn permissions_are_taken_by_cursor() {
    are_taken(CURSOR);
}

/// The CLI's own words about its mode, in its output or to the model.
fn shown(provider: &str, permission: Permission) -> &'static str {
    match (provider, permission) {
        ("claude", Permission::Edit) => "\"permissionMode\":\"acceptEdits\"",
        ("claude", Permission::All) => "\"permissionMode\":\"bypassPermissions\"",
        ("codex", Permission::Edit) => "`sandbox_mode` is `workspace-write`",
        ("codex", Permission::All) => "`sandbox_mode` is `danger-full-access`",
        ("qwen", Permission::Edit) => "\"permission_mode\":\"auto-edit\"",
        ("qwen", Permission::All) => "\"permission_mode\":\"yolo\"",
        _ => "FAKE turns=1",
    }
}

/// A turn succeeds with each of the permissions that the configuration takes. Those that ask
/// are taken by the real ones wherever the agents of `agents_real` are started, and those that
/// edit by the slow ones where `new` makes copies by a turn.
fn are_taken(cli: &'static dyn RealCli) {
    let Some(scene) = Scene::row(cli, QUICK) else { return };
    let provider = scene.provider();
    let accepted = providers::by_id(provider).unwrap().launcher().accepts().permissions;
    assert!(accepted.contains(&Permission::All), "{accepted:?}");
    let agent = |permission: &Permission| {
        let name = permission.as_str();
        // Root may skip nothing elsewhere (trap 14).
        let env = "env = { IS_SANDBOX = '1' }";
        format!("[agents.{name}]\nprovider = '{provider}'\npermission = '{name}'\n{env}\n")
    };
    let agents: String = accepted.iter().map(agent).collect();
    scene.sandbox.write(".config/sessd/config.toml", agents);
    let project = scene.project.to_str().unwrap();
    let is_left = |it: &&Permission| match **it {
        Permission::Ask => provider == "cursor",
        Permission::Edit => !scene.has_database(),
        Permission::All => true,
    };
    for permission in accepted.iter().filter(is_left) {
        let name = permission.as_str();
        let words = ["send", "--raw", "--new", name, "--cwd", project, "alpha question"];
        let sent = scene.sandbox.sessctl(&words);
        assert_eq!(sent.status, 0, "{name}: {sent:?}");
        let request = scene.server.turn_requests().pop().unwrap().body;
        let said = format!("{}{}", sent.stdout, request);
        let shown = shown(provider, *permission);
        assert!(said.contains(shown), "{name}: `{shown}` is not in {said}");
    }
}
