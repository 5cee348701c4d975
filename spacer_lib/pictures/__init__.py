"""Pictures: data and axes in, the same axes out.

``style``            colours, matplotlib defaults, short names of question types
``room_plots``       floor plan, three dimensions, camera path, frames
``map_plots``        cognitive maps
``question_plots``   answers, shares, durations, rejected candidates
``reward_plots``     rewards of completions
``training_plots``   curves, sample selection, token labels, shared prefixes
``evaluation_plots`` scores, differences, failures
``tables``           tables of words and of numbers
``figures``          whole figures of a question set, a report and the papers' tables

All but ``figures`` draw on axes that they are given; they load, save and show nothing.
Floor plans and maps have one orientation: +x to the right, +y up.
"""
