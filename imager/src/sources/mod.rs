//! Where an image's inputs come from, and the lock that pins them.
