//! TUF repository metadata: types, canonical form, signing and the client workflow.
