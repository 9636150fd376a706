//! Which folder must not know which: a table of forbidden texts, and the test that reads it.

use super::{Source, product};

/// A text that must not be in a place, and why. `except` are files where it may be.
struct Rule {
    place: &'static str,
    forbidden: &'static [&'static str],
    except: &'static [&'static str],
    why: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        place: "cli/",
        forbidden: &["rusqlite", "sessd::", "tokio", "sessd.workspace"],
        except: &[],
        why: "the client is thin: it knows proto, no store and no runtime",
    },
    Rule {
        place: "proto/",
        forbidden: &["rusqlite", "sessd::", "sessctl::"],
        except: &[],
        why: "proto is what both sides agree on, so it knows neither",
    },
    Rule {
        place: "daemon/src/store/",
        forbidden: &[
            "crate::providers",
            "crate::registry",
            "crate::listener",
            "crate::jobs",
            "crate::runner",
            "crate::redact",
            "crate::launch_files",
            "crate::config",
        ],
        except: &[],
        why: "the store keeps rows; what they mean is the registry's",
    },
    Rule {
        place: "daemon/src/redact/",
        forbidden: &["crate::providers", "crate::registry", "crate::store", "crate::config"],
        except: &[],
        why: "a text is redacted in the same way, whatever its origin",
    },
    Rule {
        place: "daemon/src/launch_files.rs",
        forbidden: &["crate::registry", "crate::store", "crate::listener", "crate::config"],
        except: &[],
        why: "launch files serve every start of a provider alike",
    },
    Rule {
        place: "daemon/src/copies.rs",
        forbidden: &["crate::registry", "crate::store", "crate::listener", "crate::config"],
        except: &[],
        why: "a copy is bytes and a path, whatever the reason for the edit",
    },
    Rule {
        place: "daemon/src/environment.rs",
        forbidden: &["crate::registry", "crate::store", "crate::listener", "crate::jobs"],
        except: &[],
        why: "the daemon's environment is read before the registry is opened",
    },
    Rule {
        place: "daemon/src/sqlite_worker.rs",
        forbidden: &["crate::", "SELECT ", "INSERT ", "UPDATE ", "DELETE "],
        except: &[],
        why: "a worker runs jobs on any database: it knows no table and no store",
    },
    Rule {
        place: "daemon/src/providers/",
        forbidden: &["Command::new", "super::super"],
        except: &[],
        why: "a provider starts nothing, and names what it uses by its path from `crate::`",
    },
    Rule {
        place: "daemon/src/runner/",
        forbidden: &["crate::providers", "crate::store", "crate::registry", "crate::listener"],
        except: &[],
        why: "a launch plan is run blindly",
    },
    Rule {
        place: "daemon/src/mcp_client/",
        forbidden: &["crate::providers", "crate::store", "crate::registry", "crate::listener"],
        except: &[],
        why: "a server is asked in the same way for every caller",
    },
    Rule {
        place: "daemon/src/config/",
        forbidden: &[
            "crate::jobs",
            "crate::registry",
            "crate::store",
            "crate::listener",
            "crate::runner",
        ],
        except: &[],
        why: "the configuration is read before anything else exists",
    },
    Rule {
        place: "daemon/src/registry/",
        forbidden: &["crate::listener", "crate::jobs", "tarpc"],
        except: &[],
        why: "what sessd can do does not depend on who asks",
    },
    Rule {
        place: "daemon/src/listener/",
        forbidden: &["crate::store", "crate::providers", "crate::runner"],
        except: &[],
        why: "the listener speaks to the registry and the jobs only",
    },
    Rule {
        place: "daemon/src/listener/",
        forbidden: &["crate::registry", "crate::jobs"],
        except: &["daemon/src/listener/dispatch.rs", "daemon/src/listener/service.rs"],
        why: "a dialect reaches the registry only through dispatch",
    },
    Rule {
        place: "daemon/src/listener/tarpc",
        forbidden: &["registry", "Service", ".ready()"],
        except: &[],
        why: "a dialect reaches the registry only through dispatch",
    },
    Rule {
        place: "daemon/src/jobs/",
        forbidden: &["crate::providers", "crate::runner", "crate::listener"],
        except: &[],
        why: "a job calls the registry",
    },
    Rule {
        place: "daemon/src/jobs/",
        forbidden: &["crate::store"],
        except: &["daemon/src/jobs/mod.rs"],
        why: "a job calls the registry; only mod.rs stores its runs",
    },
    Rule {
        place: "",
        forbidden: &["println!", "print!(", "io::stdout()", "io::stderr()", "dbg!("],
        except: &[
            "cli/src/output.rs",
            // A build script, which tells Cargo by printing.
            "cli/link.rs",
            // The built-in agent is a program of its own; its answer is its output.
            "daemon/src/providers/echo/agent.rs",
            // `sessd` itself reports a fault like `sessctl` does, and prints its defaults.
            "daemon/src/background.rs",
            "daemon/src/lib.rs",
        ],
        why: "cli/src/output.rs is the only place that prints",
    },
    Rule {
        place: "",
        forbidden: &["unsafe {", "unsafe fn", "unsafe impl"],
        except: &["daemon/src/system.rs"],
        why: "the only unsafe code is in daemon/src/system.rs",
    },
    Rule {
        place: "",
        forbidden: &[".unwrap()", ".expect(", "panic!(", "todo!(", "unimplemented!("],
        except: &[],
        why: "a defect must end as a fault with words, not as a panic",
    },
];

#[test]
fn no_place_knows_more_than_it_may() {
    let mut broken = String::new();
    let product = product();
    for place in RULES.iter().flat_map(|rule| rule.except.iter().chain([&rule.place])) {
        let is_there = product.iter().any(|source| source.name.starts_with(place));
        assert!(is_there, "a rule is about {place}, which is not there");
    }
    for source in product {
        for rule in RULES.iter().filter(|rule| source.name.starts_with(rule.place)) {
            if rule.except.contains(&&*source.name) {
                continue;
            }
            for (number, line) in source.code() {
                if let Some(found) = rule.forbidden.iter().find(|text| line.contains(**text)) {
                    let Source { name, .. } = &source;
                    broken += &format!("{name}:{number}: `{found}`: {}\n", rule.why);
                }
            }
        }
    }
    assert!(broken.is_empty(), "\n{broken}");
}
