//! Which servers share a conference, and what crosses between them.
