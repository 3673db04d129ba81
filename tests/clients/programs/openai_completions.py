"""The `openai` package: completions and embeddings; answers are validated by its own types."""

from checks import run
from openai_calls import MODEL, PUBLISHED_TOKENS, client_of, completion


def a_completion_is_whole_streamed_echoed_and_of_tokens(doors):
    client = client_of(doors)
    whole = completion(client, seed=3)
    assert (whole.object, whole.choices[0].text != "") == ("text_completion", True)
    assert completion(client, seed=3, echo=True).choices[0].text == "def add(" + whole.choices[0].text
    # The package's own type of a completion's choice has no finish_reason that is null, its service has.
    chunks = list(completion(client_of(doors, strict=False), seed=3, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert completion(client, prompt=[5, 6, 7], temperature=0).usage.prompt_tokens == 3
    several = completion(client, prompt=["def add(", "class "], n=2, seed=3)
    assert [choice.index for choice in several.choices] == [0, 1, 2, 3]
    assert several.choices[0].text == whole.choices[0].text


def a_completion_without_wishes_is_as_its_publisher_says(doors):
    answer = client_of(doors).completions.create(model=MODEL, prompt="x")
    assert answer.usage.completion_tokens <= PUBLISHED_TOKENS
    is_full = answer.usage.completion_tokens == PUBLISHED_TOKENS
    assert is_full == (answer.choices[0].finish_reason == "length")


def probabilities_of_a_completion_lie_beside_their_tokens(doors):
    logprobs = completion(client_of(doors), temperature=0, logprobs=2).choices[0].logprobs
    assert (
        len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.top_logprobs) == len(logprobs.text_offset)
    )
    assert all(token in top for token, top in zip(logprobs.tokens, logprobs.top_logprobs, strict=True))


def embeddings_are_the_same_in_numbers_and_in_base64(doors):
    client = client_of(doors)
    numbers = client.embeddings.create(model="minilm", input=["one", "two"], encoding_format="float")
    # By itself it asks for base64, which its own types do not know before it is read.
    coded = client_of(doors, strict=False).embeddings.create(model="minilm", input=["one", "two"])
    for one, other in zip(numbers.data, coded.data, strict=True):
        assert len(one.embedding) == 384
        assert max(abs(a - b) for a, b in zip(one.embedding, other.embedding, strict=True)) < 1e-5
    assert numbers.usage.prompt_tokens > 0


run(
    a_completion_is_whole_streamed_echoed_and_of_tokens,
    a_completion_without_wishes_is_as_its_publisher_says,
    probabilities_of_a_completion_lie_beside_their_tokens,
    embeddings_are_the_same_in_numbers_and_in_base64,
)
