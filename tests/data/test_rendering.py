import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from outweigh.data.records import Message
from outweigh.data.rendering import Renderer
from outweigh.errors import ConfigError, DataError
from outweigh.models.bundled import checkpoint_folder

PROMPT = (Message("user", "Name a prime."),)
ANSWER = (Message("assistant", "Seven."),)


@pytest.fixture(scope="module")
def minilm():
    return AutoTokenizer.from_pretrained(checkpoint_folder("minilm"))


@pytest.fixture(scope="module")
def smollm2():
    return AutoTokenizer.from_pretrained(checkpoint_folder("smollm2"))


def llama_like():
    """A tokenizer that puts BOS before every text, as Llama's does, and has no chat template."""
    vocabulary = {"<s>": 0, "</s>": 1, "<unk>": 2, "a": 3, "b": 4}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        name_or_path="llama-like",
    )


def test_a_tokenizer_without_a_template_gets_a_plain_one_between_its_special_tokens(minilm):
    text, characters = Renderer(minilm)(PROMPT, ANSWER)
    assert text == "[CLS]User: Name a prime.\n\nAssistant: Seven.[SEP]"
    assert text[:characters] == "[CLS]User: Name a prime.\n\nAssistant:"


def test_the_saved_template_renders_what_was_trained_on(minilm):
    text = Renderer(minilm)(PROMPT, ANSWER).text
    messages = [message._asdict() for message in PROMPT + ANSWER]
    assert minilm.apply_chat_template(messages, tokenize=False) == text
    ids = minilm(text, add_special_tokens=False)["input_ids"]
    assert ids.count(minilm.cls_token_id) == 1 and ids[-1] == minilm.sep_token_id


def test_a_chat_model_keeps_its_own_template(smollm2):
    text, characters = Renderer(smollm2)(PROMPT, ANSWER)
    assert text.endswith(
        "<|im_start|>user\nName a prime.<|im_end|>\n<|im_start|>assistant\nSeven.<|im_end|>\n"
    )
    assert text[characters:] == "Seven.<|im_end|>\n"


def test_bos_is_never_doubled_and_eos_closes_every_text():
    tokenizer = llama_like()
    for template in ("auto", "none"):
        for response in ((Message("assistant", "b"),), (Message("text", "<s>b</s>"),)):
            prompt = PROMPT if response[0].role == "assistant" else ()
            text = Renderer(tokenizer, template)(prompt, response).text
            assert text.count("<s>") == 1 and text.startswith("<s>")
            assert text.count("</s>") == 1 and text.endswith("</s>")


def test_a_text_that_a_policy_has_ended_reads_as_our_own_rendering_with_its_newline_or_without(smollm2):
    renderer = Renderer(smollm2)
    opened, whole = renderer.opened(PROMPT), renderer(PROMPT, ANSWER).text
    for end in ("", smollm2.eos_token, f"{smollm2.eos_token}\n"):  # cut, said, rendered
        text = renderer((), (Message("text", f"{opened}Seven.{end}"),)).text
        ids = [smollm2(each, add_special_tokens=False)["input_ids"] for each in (text, whole)]
        assert ids[0] == ids[1] and text.count(smollm2.eos_token) == whole.count(smollm2.eos_token)


def test_an_end_of_turn_that_is_not_the_end_of_a_sequence_closes_a_text_once():
    tokenizer = llama_like()
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}<turn>\n{% endfor %}"
    renderer = Renderer(tokenizer)
    for said in ("b", "b<turn>", "b<turn>\n", "b</s>", "b<turn></s>", "b<turn>\n</s>"):
        assert renderer((), (Message("text", said),)).text == "<s>b<turn>\n"


def test_template_none_joins_the_texts_as_they_are():
    text, characters = Renderer(llama_like(), "none")((Message("user", "a "),), (Message("assistant", "b"),))
    assert (text, text[characters:]) == ("<s>a b</s>", "b</s>")


def test_several_turns_name_their_roles(minilm):
    turns = (Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "Bye"))
    text = Renderer(minilm)(turns, ANSWER).text
    assert text == "[CLS]User: Hi\n\nAssistant: Hello\n\nUser: Bye\n\nAssistant: Seven.[SEP]"


def test_a_template_that_refuses_the_roles_is_named():
    tokenizer = llama_like()
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
        "{{ m.content }}{% endfor %}"
    )
    with pytest.raises(DataError, match=r"llama-like: refuses messages with the roles system, assistant"):
        Renderer(tokenizer)((Message("system", "a"),), ANSWER)


def test_an_unknown_template_setting_is_refused(minilm):
    with pytest.raises(ConfigError, match="template: got 'chat', want auto or none"):
        Renderer(minilm, "chat")
