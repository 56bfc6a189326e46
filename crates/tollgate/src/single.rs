//! A layer of one gate: what every deciding layer of this crate is inside.

use std::sync::Arc;

use tollgate_core::Clock;

use crate::{
    gate::{Gate, Gates},
    gated::Gated,
    refusal::Refusals,
};

/// One gate, and the list of one that services share. The list is made anew when a setting changes,
/// so that `Layer::layer` clones one `Arc` and makes nothing.
#[derive(Clone, Debug)]
pub(crate) struct Single<G> {
    gate: G,
    gates: Gates,
    observed: bool,
}

impl<G: Gate + Clone> Single<G> {
    pub(crate) fn new(gate: G) -> Self {
        Self {
            gates: Gates::of(gate.clone()),
            gate,
            observed: false,
        }
    }

    pub(crate) fn into_gate(self) -> G {
        self.gate
    }

    #[must_use]
    pub(crate) fn change(mut self, change: impl FnOnce(&mut G)) -> Self {
        change(&mut self.gate);
        self.rebuilt(|gates| gates)
    }

    #[must_use]
    pub(crate) fn observe(mut self) -> Self {
        self.observed = true;
        self.rebuilt(|gates| gates)
    }

    #[must_use]
    pub(crate) fn rebuilt(mut self, change: impl FnOnce(Gates) -> Gates) -> Self {
        self.gates = change(self.gates).with_only(Arc::new(self.gate.clone()), self.observed);
        self
    }

    pub(crate) fn layer<S>(&self, inner: S) -> Gated<S> {
        Gated::new(inner, self.gates.clone())
    }

    #[must_use]
    pub(crate) fn with_clock(self, clock: impl Clock) -> Self {
        self.rebuilt(|gates| gates.with_clock(clock))
    }

    #[must_use]
    pub(crate) fn with_refusals(self, refusals: Refusals) -> Self {
        self.rebuilt(|gates| gates.with_refusals(refusals))
    }
}

/// Gives a layer around a [`Single`] what all of them have.
macro_rules! single_gate_layer {
    ($layer:ident) => {
        impl $layer {
            /// Answers refused requests in this form.
            pub fn with_refusals(self, refusals: crate::refusal::Refusals) -> Self {
                Self(self.0.with_refusals(refusals))
            }

            /// Reads the time from `clock` in place of the machine's.
            pub fn with_clock(self, clock: impl tollgate_core::Clock) -> Self {
                Self(self.0.with_clock(clock))
            }

            /// Leaves nothing in the request's extensions: a gate further in, and handlers, then can not see
            /// what this one found. Where the response is not changed either, a request costs no allocation.
            pub fn without_context(self) -> Self {
                Self(self.0.rebuilt(crate::gate::Gates::without_context))
            }
        }

        impl<S> tower_layer::Layer<S> for $layer {
            type Service = crate::gated::Gated<S>;

            fn layer(&self, inner: S) -> Self::Service {
                self.0.layer(inner)
            }
        }
    };
}
pub(crate) use single_gate_layer;
