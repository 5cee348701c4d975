"""Every guard that README and notebooks name, how to switch it off, and what falls.

A guard is switched off by other text in its module (``benches.changes``). Run as a
program, this file does so for each guard and prints what its tests did, one JSON
object a line; ``test_guards.py`` reads that.
"""

import json
import sys
from dataclasses import asdict, dataclass

from benches.changes import Change, run_tests, warm

README, CONFIGS = "README.md", "configs/README.md"
N02, N03, N04 = "02_rasterize_maps", "03_generate_qa", "04_design_rewards"
N05, N06, N07 = "05_train_grpo", "06_train_baselines", "07_evaluate"
N11 = "11_share_prompts"


@dataclass(frozen=True)
class Guard:
    """One guard.

    Attributes
    ----------
    name : str
    claim : (str, str)
        The file that names it (a notebook by its stem), and words of the claim there.
    module : str
        Below ``spacer_lib``.
    old, new : str
        What is in place of what once the guard is off.
    tests : str
        That must fail then, below ``tests``.
    """

    name: str
    claim: tuple[str, str]
    module: str
    old: str
    new: str
    tests: str

    @property
    def change(self) -> Change:
        """The guard switched off."""
        return Change(f"spacer_lib.{self.module}", self.old, self.new)

    @property
    def test_ids(self) -> list[str]:
        """As pytest takes them."""
        return [f"tests/{name}" for name in self.tests.split()]


GUARDS = (
    # ------------------------------------------------------------ training
    Guard(
        "the loss sees the pixels",
        (README, "Every start checks that the loss depends on the pixels"),
        "training.visibility",
        "if not 0 < found[kind] < math.inf:",
        "if False:",
        "training/test_start.py::test_a_loss_that_does_not_see_the_pixels_is_refused",
    ),
    Guard(
        "the loss sees the pixels: NaN",
        (README, "Every start checks that the loss depends on the pixels"),
        "training.visibility",
        "if not 0 < found[kind] < math.inf:",
        "if found[kind] == 0:",
        "training/test_start.py::test_a_loss_that_does_not_see_the_pixels_is_refused",
    ),
    Guard(
        "the check of pixels at every start",
        (README, "Every start checks that the loss depends on the pixels"),
        "training.assembly",
        "trainer.add_callback(VisibilityCheck(trainer))",
        "VisibilityCheck(trainer)",
        "training/test_trainer.py::test_a_blind_trainer_does_not_start",
    ),
    Guard(
        "the check of pixels at every start of a baseline",
        (README, "Every start checks that the loss depends on the pixels"),
        "training.baselines",
        "trainer.add_callback(VisibilityCheck(trainer))",
        "VisibilityCheck(trainer)",
        "training/test_baselines.py::test_a_blind_trainer_does_not_start",
    ),
    Guard(
        "shared prompts give the scores of separate rows",
        (N11, "shares the prompt wherever the result is exac"),
        "training.packing_check",
        "if not worst.is_noise:",
        "if False:",
        "training/test_prefix.py::test_wrong_scores_are_found_before_the_first_step[on]",
    ),
    Guard(
        "shared prompts give the scores of separate rows: NaN",
        (README, "with the same numbers as separate\n  rows"),
        "training.packing_check",
        "return self.packed <= self.most",
        "return not self.packed > self.most",
        "training/test_prefix.py::test_noise_is_what_two_stock_forms_differ_by",
    ),
    Guard(
        "a shared prompt is one prompt",
        (README, "A group's prompt, video included, is computed once"),
        "training.prefix",
        "if not same or any(shown is not media[0] for shown in media):",
        "if False:",
        "training/test_prefix.py::test_a_prompt_is_packed_with_itself_alone",
    ),
    Guard(
        "what is not aligned with vLLM is refused",
        (README, "refuse what is above the noise of the trainer itself"),
        "training.alignment",
        "        if not one.faults:\n            continue\n",
        "        continue\n",
        "rollouts/test_alignment.py::test_old_weights_are_refused",
    ),
    Guard(
        "log-probabilities of vLLM",
        (README, "compare token ids, video tokens, time positions and log-prob"),
        "training.alignment",
        "if not gap.mean <= limit:",
        "if False:",
        "rollouts/test_alignment.py::test_rounding_within_the_limit_is_accepted",
    ),
    Guard(
        "log-probabilities of vLLM: NaN",
        (README, "compare token ids, video tokens, time positions and log-prob"),
        "training.alignment",
        "if not gap.mean <= limit:",
        "if gap.mean > limit:",
        "rollouts/test_alignment.py::test_scores_that_are_no_numbers_are_not_aligned",
    ),
    Guard(
        "video tokens of vLLM",
        (README, "compare token ids, video tokens, time positions and log-prob"),
        "training.alignment",
        "if counts[0] != counts[1]:",
        "if False:",
        "rollouts/test_alignment.py::"
        "test_another_number_of_frames_is_refused_before_scores",
    ),
    Guard(
        "token ids of vLLM",
        (README, "compare token ids, video tokens, time positions and log-prob"),
        "training.alignment",
        "if ours != theirs:",
        "if False:",
        "rollouts/test_alignment.py::test_other_words_in_the_prompt_are_refused",
    ),
    Guard(
        "positions of vLLM",
        (README, "compare token ids, video tokens, time positions and log-prob"),
        "training.alignment",
        "if not torch.equal(ours, theirs):",
        "if False:",
        "rollouts/test_alignment.py::"
        "test_positions_and_times_of_vllm_are_those_of_the_loss",
    ),
    Guard(
        "time steps of vLLM",
        (README, "compare token ids, video tokens, time positions and log-prob"),
        "training.alignment",
        'if not math.isclose(own, there["seconds"], rel_tol=1e-5):',
        "if False:",
        "rollouts/test_alignment.py::"
        "test_positions_and_times_of_vllm_are_those_of_the_loss",
    ),
    Guard(
        "time steps of vLLM: NaN",
        (README, "compare token ids, video tokens, time positions and log-prob"),
        "training.alignment",
        'if not math.isclose(own, there["seconds"], rel_tol=1e-5):',
        'if abs(own - there["seconds"]) > 1e-5 * own:',
        "rollouts/test_alignment.py::"
        "test_positions_and_times_of_vllm_are_those_of_the_loss",
    ),
    Guard(
        "a resumed run has the settings of its start",
        (N05, "With other settings it refuses"),
        "training.processes.launch",
        "    if changed:\n",
        "    if False:\n",
        "training/test_launch.py::"
        "test_a_finished_run_is_skipped_or_set_aside_but_never_mixed",
    ),
    Guard(
        "DeepSpeed's checkpoints want as many workers",
        (README, "another number of processes if it does not use DeepSpeed"),
        "training.processes.launch",
        'if moved and (old.get("zero_stage") or plan.zero_stage):',
        "if False:",
        "training/test_launch.py::test_deepspeeds_checkpoints_want_as_many_workers",
    ),
    Guard(
        "an incomplete checkpoint is none",
        (N05, "the last complete checkpoint and ignores incomplete ones"),
        "training.checkpoints",
        'listing(folder, f"checkpoint-*/{COMPLETE}")\n'
        '        if are_whole(path.parent, read_json(path).get("files", {}))\n',
        'listing(folder, "checkpoint-*/*")\n',
        "training/test_start.py::test_a_checkpoint_cut_off_is_not_one",
    ),
    Guard(
        "the disk holds the checkpoints",
        (README, "and refuses if it is not there"),
        "training.needs",
        "if free + there >= needs.disk:",
        "if True:",
        "training/test_needs.py::test_earlier_checkpoints_of_the_run_count_as_room",
    ),
    Guard(
        "the GPU holds weights and optimiser",
        (N05, "and refuses if weights and optimiser alone do not fit"),
        "training.gpu_needs",
        "if needs.state > card:",
        "if False:",
        "training/test_needs.py::test_a_gpu_that_is_too_small_is_refused",
    ),
    Guard(
        "large recipes need GPUs",
        (README, "Recipes of published size refuse to start without GPUs"),
        "training.processes.plan",
        "if config.advanced.needs_gpu:",
        "if False:",
        "training/test_cluster.py::test_a_large_recipe_refuses_a_machine_without_gpus",
    ),
    Guard(
        "as many GPUs as asked for",
        (N05, "With some GPUs, but fewer than `gpus`, it refuses"),
        "training.processes.plan",
        "    if gpus_found:\n",
        "    if False:\n",
        "training/test_launch.py::test_too_few_gpus_are_an_error",
    ),
    Guard(
        "as many processes as planned",
        (README, "One process, DDP, ZeRO-2 and ZeRO-3"),
        "training.processes.worker",
        "if found != asked:",
        "if False:",
        "training/test_cluster.py::test_workers_check_the_world",
    ),
    Guard(
        "groups of identical rollouts",
        (N05, "all rollouts of a group would be the same, and GRPO would learn"),
        "training.step_metrics",
        "if identical == 1 and trainer.first_step",
        "if False and trainer.first_step",
        "training/test_trainer.py::test_groups_of_identical_rollouts_are_refused",
    ),
    Guard(
        "a NaN reward",
        (N05, "The advantages of a group sum to zero"),
        "training.step",
        'grpo.require_finite("rewards", torch.tensor(given, dtype=torch.float32))',
        "None",
        "training/test_trainer.py::test_a_reward_that_is_no_number_is_refused",
    ),
    Guard(
        "NaN in GRPO's inputs",
        (README, "`spacer_lib/training/grpo.py` has GRPO's formulas"),
        "training.grpo",
        "    if count:\n",
        "    if False:\n",
        "training/test_grpo.py::test_wrong_rewards_are_refused "
        "training/test_grpo.py::test_wrong_inputs_of_the_loss_are_refused",
    ),
    Guard(
        "a few broken files are left out, many are refused",
        (N05, "If a file cannot be read, the next row replaces it"),
        "training.batches",
        "if len(self.broken) > MAX_BROKEN * len(self.rows):",
        # Without any row left, the search for the next one would not end.
        "assert len(self.broken) < len(self.rows)\n        if False:",
        "training/test_group_options.py::test_many_unreadable_videos_are_no_accident",
    ),
    Guard(
        "rollouts depend on their place",
        (README, "Rollouts depend on seed, step and place only"),
        "models.sampling",
        "rows = _mix(keys + _signed((position + 1) * _GAMMA))",
        "rows = _mix(keys)",
        "unit/test_sampling.py::test_positions_and_tokens_are_independent",
    ),
    Guard(
        "code from a checkpoint",
        (README, "Kimi-VL are tested only up to the point where they need a GPU or"),
        "models.checkpoints",
        'if "trust_remote_code" not in str(error):',
        "if True:",
        "training/test_start.py::test_code_from_a_checkpoint_does_not_run_unasked",
    ),
    Guard(
        "reasoning to imitate",
        (N06, "an empty think block would teach a known reward hack"),
        "training.responses",
        "if not words:",
        "if False:",
        "training/test_baselines.py::test_targets_follow_the_prompt_style",
    ),
    Guard(
        "samples whose scores are no numbers",
        (README, "drops questions that a model always or never"),
        "evaluation.selection",
        "if not all(0 <= score <= 1 for score in group):",
        "if False:",
        "training/test_baselines.py::test_informative_rows_are_kept_and_counted",
    ),
    # ------------------------------------------------------------ leaks
    Guard(
        "no benchmark room in `spacer qa`",
        (README, "and `qa`, `mix`, `select` and `train` refuse"),
        "questions.build",
        'require_no_benchmark_rooms(f"part {part}", shown, remedy)',
        "None",
        "unit/test_build.py::test_benchmark_rooms_are_refused_by_default",
    ),
    Guard(
        "no benchmark room in `spacer mix`",
        (README, "and `qa`, `mix`, `select` and `train` refuse"),
        "questions.mixture",
        "benchmark_questions(spatial, allow_datasets),",
        "[],",
        "unit/test_mixture.py::test_a_room_of_the_benchmark_is_not_mixed",
    ),
    Guard(
        "no benchmark room in training",
        (README, "them, also in files that other programs wrote"),
        "training.data",
        "benchmark_questions([row for _, row in chosen], "
        "config.advanced.allow_datasets),",
        "[],",
        "training/test_data.py::test_rooms_of_the_benchmark_are_refused",
    ),
    Guard(
        "benchmark rooms in any spelling",
        (README, "are known by name in any spelling"),
        "rooms.identity",
        "    text = text.casefold()\n",
        "",
        "unit/test_identity.py::test_spellings_of_a_scan",
    ),
    Guard(
        "the benchmark's data sets cannot be allowed",
        (README, "No training set may contain a room of VSI-Bench"),
        "rooms.identity",
        "if dataset not in DATASETS and dataset in map(dataset_name, allowed):",
        "if dataset in map(dataset_name, allowed):",
        "unit/test_identity.py::"
        "test_a_data_set_is_allowed_by_name_but_none_of_the_three",
    ),
    Guard(
        "scans held out by a list",
        (N03, "`--held-out` adds lists of your own"),
        "questions.build",
        "            if listed:\n",
        "            if False:\n",
        "unit/test_build.py::test_a_planted_leak_is_refused_and_nothing_is_written",
    ),
    Guard(
        "rescans stay in one part",
        (N03, "A split assigns whole spaces to parts"),
        "questions.choose",
        "parts[name] = [s for s in scene_ids if space_of(s) in mine]",
        "parts[name] = scene_ids[start::2]",
        "unit/test_qa.py::test_splits_keep_rescans_together",
    ),
    # ------------------------------------------------------------ questions
    Guard(
        "options are drawn by seed, scene and type",
        (N03, "Random choices depend on seed, scene and question type only"),
        "questions.generators",
        "np.random.default_rng(key), rules)",
        "np.random.default_rng(), rules)",
        "unit/test_qa.py::test_questions_depend_on_seed_and_scene_only",
    ),
    Guard(
        "other questions have another version",
        (README, "resumed\nrun write the same bytes, on any processor"),
        "questions.drafts",
        "texts = [texts[i] for i in rng.permutation(len(texts))]",
        "texts = [texts[i] for i in rng.permutation(len(texts))[::-1]]",
        "unit/test_build.py::test_other_questions_have_another_generator_version",
    ),
    Guard(
        "candidates of other settings are made anew",
        (N03, "candidates are kept scene by scene"),
        "artifacts",
        'and entry["fingerprint"] == fingerprint',
        "and True",
        "unit/test_build.py::test_a_folder_of_other_settings_is_made_anew",
    ),
    Guard(
        "no question twice",
        (N03, "Try to break it"),
        "questions.build",
        "    if twice:\n",
        "    if False:\n",
        "unit/test_build.py::test_repeats_are_refused",
    ),
    Guard(
        "no direction between equal points",
        (N03, "`turn_deg` refuses equa"),
        "rooms.geometry",
        "if not any(forward) or not any(query):",
        "if False:",
        "unit/test_geometry.py::test_a_bearing_needs_distinct_points",
    ),
    Guard(
        "the audit finds a wrong official answer",
        (N03, "An audit must find errors"),
        "questions.audit",
        'if _same(ours, str(row["ground_truth"]).strip()):',
        "if True:",
        "unit/test_audit.py::"
        "test_a_disagreement_shows_both_values_and_the_contradiction",
    ),
    Guard(
        "the audit finds a wrong official answer: NaN",
        (N03, "An audit must find errors"),
        "questions.audit",
        "return float(ours) == float(official)",
        "return not abs(float(ours) - float(official)) > 0",
        "unit/test_audit.py::"
        "test_an_official_answer_that_is_no_number_is_a_disagreement",
    ),
    Guard(
        "NaN in a recipe of questions",
        (README, "recipe names its rules"),
        "questions.rules",
        "not value >= least:",
        "value < least:",
        "unit/test_build.py::test_numbers_of_a_recipe_that_are_none_are_refused",
    ),
    Guard(
        "NaN and infinity in a YAML file",
        (N05, "A misspelt setting is refused here, before training"),
        "settings",
        "if isinstance(value, float) and not math.isfinite(value):",
        "if False:",
        "unit/test_settings.py::test_wrong_values_are_named",
    ),
    Guard(
        "misspelt settings",
        (N05, "A misspelt setting is refused here, before training"),
        "settings",
        "        if key not in names:\n",
        "        if False:\n",
        "unit/test_settings.py::test_wrong_values_are_named",
    ),
    Guard(
        "misspelt parameters of a notebook",
        (README, "refuses misspelt parameters"),
        "notebooks",
        "        if name not in declared:\n",
        "        if False:\n",
        "unit/test_config.py::test_a_parameter_that_a_notebook_lacks_is_refused",
    ),
    # ------------------------------------------------------------ maps and rewards
    Guard(
        "a cell off the grid spoils the map",
        (N02, "If one cell is off the grid, the whole map is refused"),
        "maps.text",
        "if any(not 0 <= v < grid_size for s in",
        "if any(False for s in",
        "unit/test_cogmap.py::test_unreadable_maps",
    ),
    Guard(
        "the gate of the map reward",
        (N04, "Without a gate, a drawn map would pay for any answer"),
        "rewards.score",
        'return gate == "always" or (gate != "off" and right)',
        "return True",
        "unit/test_rewards.py::test_gates_of_a_number "
        "unit/test_rewards.py::test_gates_of_a_choice",
    ),
    Guard(
        "a constant map earns nothing",
        (README, "Our score `aligned` pays chance nothing"),
        "maps.scores",
        "return float(min(above, 1.0)) if above > 1e-9 else 0.0",
        "return float(min(agreement, 1.0))",
        "unit/test_cogmap.py::test_no_constant_map_earns_anything",
    ),
    Guard(
        "ours pays no reward hack",
        (N04, "ours pays a probe's map or length"),
        "rewards.score",
        "if form_failure is None and config.strict_think:",
        "if False:",
        "unit/test_rewards.py::test_ours_pays_no_format_for_a_thought_that_is_none",
    ),
    Guard(
        "consistency needs a right map",
        (N04, "paid for a map that is wrong where the question looks"),
        "rewards.consistency",
        "if not same_answer(solved.answer, true_answer(row), row):",
        "if False:",
        "unit/test_added_rewards.py::test_consistency_by_hand",
    ),
    Guard(
        "a statement counts once",
        (N04, "A statement counts once"),
        "rewards.assertions",
        "verdicts == {True} and len(said) == 1",
        "True in verdicts",
        "unit/test_added_rewards.py::test_statements_by_hand",
    ),
    Guard(
        "few statements earn little",
        (N04, "fewer than four earn a part"),
        "rewards.assertions",
        "/ max(stated, ENOUGH)",
        "/ max(stated, 1)",
        "unit/test_added_rewards.py::test_statements_by_hand",
    ),
    Guard(
        "boxes of no size",
        (N04, "A side of 0 spoils the whole map"),
        "maps.boxes",
        "if any(min(box[2:]) <= 0 for found in boxes.values() for box in found):",
        "if False:",
        "unit/test_added_rewards.py::test_readings_of_boxes",
    ),
    Guard(
        "blind boxes earn nothing",
        (N04, "corrected for chance"),
        "maps.boxes",
        "/ (count + surplus) - chance) / (1 - chance)",
        "/ (count + surplus))",
        "unit/test_added_rewards.py::test_blind_boxes_earn_nothing",
    ),
    Guard(
        "blind relations earn nothing",
        (N04, "corrected for chance"),
        "maps.relations",
        "above = (float(mean) - chance) / (1 - chance)",
        "above = float(mean)",
        "unit/test_added_rewards.py::test_blind_maps_have_no_relations",
    ),
    Guard(
        "added parts stand behind the map's gate",
        (N04, "the other three stand behind the gate"),
        "rewards.score",
        'if opened or name == "consistency" else 0.0',
        "if opened or name else 0.0",
        "unit/test_added_rewards.py::test_weights_and_gates",
    ),
    Guard(
        "a true number is finite",
        (N03, "Generate questions with checkable answers"),
        "rewards.metrics",
        "if not math.isfinite(truth):",
        "if False:",
        "unit/test_metrics.py::test_a_truth_that_is_no_number_raises",
    ),
    # ------------------------------------------------------------ evaluation
    Guard(
        "floors count answers of other rooms",
        (N07, "floors only count answers in *other* rooms"),
        "evaluation.floors",
        "return self.spaces != space",
        "return self.spaces == self.spaces",
        "unit/test_floors.py::test_an_answer_is_never_counted_in_its_own_room",
    ),
    Guard(
        "the strongest floor of each task",
        (README, "strongest floor takes for each task the best answer"),
        "evaluation.floors",
        "if task not in best or mean > means[best[task]][task] + 1e-12:",
        "if task not in best:",
        "unit/test_floors.py::test_the_strongest_floor_is_the_best_of_each_task",
    ),
    Guard(
        "scores are shares: NaN",
        (
            README,
            "refusals and\nunreadable text count as wrong and",
        ),
        "evaluation.statistics",
        "if not (isinstance(score, int | float) and 0 <= score <= 1):",
        "if score is not None and (score < 0 or score > 1):",
        "unit/test_evaluation.py::test_scores_that_are_no_shares_are_refused",
    ),
    Guard(
        "floors whose scores are NaN",
        (README, "puts every run beside the\nstrongest floor of each task"),
        "evaluation.floors",
        "        require_scores(part)\n",
        "        pass\n",
        "unit/test_floors.py::test_a_floor_whose_scores_are_no_numbers_is_refused",
    ),
    Guard(
        "differences are paired",
        (README, "Differences are paired"),
        "evaluation.statistics",
        'if set(first["id"]) != set(second["id"]) or not first["id"].is_unique:',
        "if False:",
        "unit/test_evaluation.py::test_compare_needs_the_same_questions",
    ),
    Guard(
        "not distinguishable",
        (README, "may be *not distinguishable*"),
        "evaluation.statistics",
        "    if low > 0:\n",
        "    if not low <= 0:\n",
        "unit/test_evaluation.py::test_words_for_intervals",
    ),
    Guard(
        "intervals over rooms",
        (README, "Every number has an interval over\nrooms or videos"),
        "evaluation.bootstrap",
        "    _, index = np.unique(np.asarray(clusters), return_inverse=True)\n",
        "    index = np.arange(len(values))\n",
        "unit/test_evaluation.py::test_intervals_are_wider_when_questions_share_rooms",
    ),
    Guard(
        "a folder holds the answers of one run",
        (README, "Every\nanswer is on disk at once, so a killed run continues"),
        "evaluation.runner",
        'if old.get("config") != header["config"]:',
        "if False:",
        "unit/test_ask.py::test_other_settings_do_not_mix_into_a_folder",
    ),
    Guard(
        "a file holds the answers of one run",
        (README, "Every\nanswer is on disk at once, so a killed run continues"),
        "evaluation.ask",
        "elif name in self.configs and not fresh:",
        "elif False:",
        "unit/test_ask.py::test_a_journal_refuses_or_replaces_answers_of_another_hash",
    ),
    Guard(
        "a line that was cut off is no answer",
        (N07, "so that a killed run resumes"),
        "artifacts",
        "    if whole != content:\n",
        "    if False:\n",
        "unit/test_ask.py::test_journals_are_cut_where_a_line_was_torn",
    ),
    Guard(
        "processes hold one model",
        (README, "for each GPU and writes the bytes of one"),
        "evaluation.workers",
        "if any(one != found[0] for one in found):",
        "if False:",
        "unit/test_workers.py::test_processes_that_hold_different_models_are_refused",
    ),
    Guard(
        "an error of a gateway is no answer",
        (README, "its row stays unanswered"),
        "evaluation.outcomes",
        '    if made.get("error"):\n',
        "    if False:\n",
        "unit/test_http_faults.py::test_a_reply_has_one_of_four_outcomes",
    ),
    Guard(
        "rules that differ are listed",
        (README, "`--audit` shows what each rule makes of the same outputs"),
        "evaluation.audit",
        'if not np.isclose(ours["score"], theirs["score"])',
        "if False",
        "unit/test_audit_extraction.py::test_agreement_and_disagreements",
    ),
    Guard(
        "the server answers to names of its own",
        (README, "answers only to names of its own"),
        "evaluation.serve",
        "        if host not in here:\n",
        "        if False:\n",
        "unit/test_http_faults.py::test_pages_of_a_browser_cannot_use_the_server",
    ),
    Guard(
        "settings of an evaluation: NaN",
        (N07, "**All decoding settings are given.**"),
        "evaluation.config",
        "not (0 < value < math.inf or zero and value == 0):",
        "(value < 0 or (value == 0 and not zero)):",
        "unit/test_ask.py::test_settings_come_from_paper_file_and_options",
    ),
    # ------------------------------------------------------------ files
    Guard(
        "files are whole or absent",
        (README, "A scan or a room of a metadata file that cannot"),
        "artifacts",
        "            yield temporary\n            os.chmod(temporary, 0o644)\n"
        "            _sync(temporary)\n            os.replace(temporary, path)\n",
        "            yield path\n",
        "unit/test_rows.py::test_an_interrupted_writer_leaves_what_was_there",
    ),
    Guard(
        "one writer of a folder",
        (README, "A run folder holds the recipe"),
        "artifacts",
        "fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))",
        "pass",
        "unit/test_ask.py::"
        "test_answers_of_unknown_origin_and_a_second_writer_are_refused",
    ),
    Guard(
        "a video that is not decoded in time",
        (README, "A video that is not decoded within 120 s fails by"),
        "rooms.decoding",
        "if not 0 < limit < 10**6:",
        "if limit <= 0 or limit >= 10**6:",
        "unit/test_video.py::test_a_limit_that_is_none",
    ),
)


def main() -> None:
    """Print ``{name, outcome}`` of all tests with the guards on (name ""), then off."""
    warm(training=True)
    words = sys.argv[1:]
    chosen = [g for g in GUARDS if not words or any(word in g.name for word in words)]
    every = list(dict.fromkeys(test for guard in chosen for test in guard.test_ids))
    runs = [("", every, Change("", "", ""), "")]
    for name, tests, change, text in runs + [
        (g.name, g.test_ids, g.change, g.change.text) for g in chosen
    ]:
        outcome = run_tests(tests, change.module, text, seconds=60)
        print(json.dumps({"name": name, "outcome": asdict(outcome)}), flush=True)


if __name__ == "__main__":
    main()
