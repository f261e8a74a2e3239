//! The macro that makes a group of the spec and of the patch: each option's help, type and default stand once.

/// Makes a group of the spec, and of the patch. Of each leaf: `[what clap is told] name: its type = its default`, with
/// `name: its type as what one option gives = its default` where the two differ.
macro_rules! group {

    ($(#[$doc:meta])* [$($heading:tt)*] $Spec:ident $Patch:ident {
        $($(#[$help:meta])* [$($told:tt)*] $name:ident: $type:ty as ($($given:tt)+) = $default:expr,)*
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct $Spec {
            $($(#[$help])* pub $name: $type,)*
        }

        impl Default for $Spec {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl $Spec {
            /// Lays over it what was given.
            pub fn lay(&mut self, patch: $Patch) {
                $(group!(@lay self patch $name $type);)*
            }

            /// Each leaf by its option's long name, with its values.
            pub(super) fn words(&self, words: &mut Vec<(String, Vec<String>)>) {
                $(words.push((stringify!($name).replace('_', "-"), self.$name.words()));)*
            }
        }

        $(#[$doc])*
        #[derive(Debug, Clone, Default, Args)]
        #[command($($heading)*)]
        pub struct $Patch {
            $($(#[$help])* #[arg(long, $($told)*)] pub $name: Option<$($given)+>,)*
        }
    };
    (@lay $spec:ident $patch:ident lm $type:ty) => {
        if let Some(given) = $patch.lm {
            $spec.lm.lay(given);
        }
    };
    (@lay $spec:ident $patch:ident $name:ident $type:ty) => {
        if let Some(given) = $patch.$name {
            $spec.$name = given.into();
        }
    };
}

pub(super) use group;
