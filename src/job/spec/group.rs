//! The macro that defines a group of options once, for the spec and for the patch.

/// Defines a group of the spec, and the same group of the patch. Each option is written as
/// `[arguments for clap] name: type in the spec as (type in the patch) = default`.
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
            /// Replaces the values that the patch gives.
            pub fn lay(&mut self, patch: $Patch) {
                $(group!(@lay self patch $name $type);)*
            }

            /// Adds each option's long name and values to `words`.
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
