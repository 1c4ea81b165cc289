/* Distance: scores of candidates by how near they are, in features, to given good and bad pictures.
 *
 *     d+_k, d-_k = mean (or least) Euclidean distance of candidate k to the chosen, to the rejected pictures
 *     margin            Z(d- - d+)
 *     separate_zscore   Z(d-) - Z(d+)
 *     cosine            softmax over candidates of the cosine to the chosen, minus the same to the rejected
 *
 * per feature key, all tokens of a candidate together; Z: z-score over the candidates, or nothing. Keys are averaged or
 * added. Takes the reward's place in the update. */
#ifndef DRPO_STEP_DISTANCE_H
#define DRPO_STEP_DISTANCE_H

#include "step/step_types.h"

/* sets [keys], each with data; score [candidates] is written. */
int distance_scores(const FeatureSet *sets, int keys, int candidates, const DistanceOptions *o, double *score,
                    Error *err);

#endif
