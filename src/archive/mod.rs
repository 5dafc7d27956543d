//! Archives: bytes in, named entries out, bounded in every way. The only place that knows zip and rar.
