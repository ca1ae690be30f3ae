//! What everybody asks for over any model: OpenAI's `/v1/embeddings`, and `/rerank` as Cohere, Jina and vLLM have it, with
//! errors as their clients read them.

mod asked;
mod embeddings;
mod problem;
mod rerank;

pub use embeddings::embeddings;
pub use problem::problem;
pub use rerank::rerank;
