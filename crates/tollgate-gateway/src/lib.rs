//! The gateway: reads Tyk's own files and serves them on the layers of `tollgate`.
