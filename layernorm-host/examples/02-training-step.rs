//! Training weight and bias by gradient descent until the layer does what another one does.
//!
//!     cargo run --example 02-training-step

use layernorm_host::{Device, FastLayerNorm, LayerNorm, Result, Tensor};

const N_ROWS: usize = 64;
const N_COLS: usize = 32;
const STEPS: usize = 60;
const RATE: f32 = 0.25;

fn main() -> Result<()> {
    let device = Device::auto()?;
    let wave = |n: usize, step: f32| {
        (0..n)
            .map(|i| (i as f32 * step).sin())
            .collect::<Vec<f32>>()
    };
    let columns = |values: &[f32]| Tensor::from_slice(values, &[N_COLS], &device);
    let x = Tensor::from_slice(&wave(N_ROWS * N_COLS, 0.7), &[N_ROWS, N_COLS], &device)?;

    // What is to be learned.
    let (weight, bias) = (columns(&wave(N_COLS, 0.3))?, columns(&wave(N_COLS, 1.1))?);
    let (target, _) =
        FastLayerNorm::forward(&x, Some(&weight), Some(&bias), LayerNorm::DEFAULT_EPS)?;
    let target = target.to_vec::<f32>()?;

    let mut weight = vec![1.0f32; N_COLS];
    let mut bias = vec![0.0f32; N_COLS];
    let mut losses = Vec::new();
    for step in 0..STEPS {
        let layer = LayerNorm::from_parameters(
            &[N_COLS],
            Some(columns(&weight)?),
            Some(columns(&bias)?),
            LayerNorm::DEFAULT_EPS,
        )?;
        let (y, saved) = layer.forward(&x)?;

        // loss = the mean over rows of |y - target|^2 / 2, so dloss/dy = (y - target) / n_rows.
        let difference = y.to_vec::<f32>()?;
        let difference = difference.iter().zip(&target).map(|(y, target)| y - target);
        let dy: Vec<f32> = difference.map(|d| d / N_ROWS as f32).collect();
        let loss: f32 = dy.iter().map(|d| d * d).sum::<f32>() * N_ROWS as f32 / 2.0;
        losses.push(loss);
        if step % 10 == 0 {
            println!("step {step:>2}: loss {loss:.6}");
        }

        let dy = Tensor::from_vec(dy, &[N_ROWS, N_COLS], &device)?;
        let (_dx, dweight, dbias) = FastLayerNorm::backward(saved, &dy)?;
        for (parameter, gradient) in [(&mut weight, dweight), (&mut bias, dbias)] {
            let Some(gradient) = gradient else { continue };
            for (value, slope) in parameter.iter_mut().zip(gradient.to_vec::<f32>()?) {
                *value -= RATE * slope;
            }
        }
    }
    let (first, last) = (losses[0], losses[STEPS - 1]);
    println!("loss went from {first:.6} to {last:.6} on {device}");
    assert!(last < first / 100.0, "the loss did not go down");
    Ok(())
}
