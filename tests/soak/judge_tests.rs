//! The judge finds what it is for, and forgives what it should.
