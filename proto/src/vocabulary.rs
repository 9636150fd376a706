//! The macro behind every closed vocabulary: an enum whose values have one spelling and one
//! meaning, both written once. Knows no vocabulary.

/// Declares an enum of unit variants with `ALL`, `as_str`, `meaning`, `parse` and `Display`.
///
/// The spelling is the one of JSON, SQL and the command line. The doc comment of a variant is
/// also its meaning at run time, for `sessctl help` and `docs/reference.md`.
macro_rules! vocabulary {
    (
        $(#[doc = $about:literal])+
        pub enum $name:ident $(, default $default:ident)? {
            $($(#[doc = $meaning:literal])+ $variant:ident = $text:literal,)+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        pub enum $name {
            $($(#[doc = $meaning])+ #[serde(rename = $text)] $variant,)+
        }

        $(impl Default for $name {
            fn default() -> Self {
                Self::$default
            }
        })?

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The general description of this vocabulary.
            pub const ABOUT: &'static str = concat!($($about),+).trim_ascii();

            /// Returns the spelling used in JSON, SQL and on the command line.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// Returns what the value means, as one line of plain text.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($meaning),+).trim_ascii()),+ }
            }

            /// Returns the value with this spelling, if there is one.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == text)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}
pub(crate) use vocabulary;
