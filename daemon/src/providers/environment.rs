//! The variables that every agent CLI needs to reach its service. Knows no provider.

/// Returns a list of variable names with the proxy variables added.
macro_rules! environment {
    ($($name:literal),* $(,)?) => {
        &[$($name,)* "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
          "http_proxy", "https_proxy", "all_proxy", "no_proxy"]
    };
}
pub(super) use environment;
