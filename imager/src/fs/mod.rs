//! Writers of the file systems and archives an image is made of. Each takes a [`tree::Tree`] or
//! plain bytes and gives the same bytes for the same input, on any machine and at any time.
