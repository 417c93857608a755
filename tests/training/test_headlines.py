from clipa_jax.training import headlines


def test_the_first_evaluator_of_a_type_counts_whatever_its_name():
    evals = {
        "coco": {"type": "retrieval"},
        "imagenet1k": {"type": "zero_shot"},
        "zero_shot": {"type": "zero_shot"},
    }
    names = headlines.names(evals)
    assert names["zero_shot_top1"] == "imagenet1k/top1"
    assert names["retrieval_t2i_r1"] == "coco/t2i_r1"


def test_without_an_evaluator_of_a_type_its_name_stands():
    assert headlines.names({})["zero_shot_top5"] == "zero_shot/top5"


def test_an_evaluator_without_data_makes_way_for_the_next_of_its_type():
    evals = {"imagenet1k": {"type": "zero_shot"}, "mine": {"type": "zero_shot"}}
    assert headlines.names(evals, ["mine/top1"])["zero_shot_top1"] == "mine/top1"
    assert headlines.names(evals, ["mine/top1"])["zero_shot_top5"] == "imagenet1k/top5"
